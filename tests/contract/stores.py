"""Every kind of store there is, opened in this process: a new kind is tested without a change of the suites."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from reposyncd.app.stores import KINDS
from reposyncd.embedding import EmbedderSpec, create
from reposyncd.ports import Collections, StoreAddress, StoreAdmin
from reposyncd.store.kinds import StoreSettings
from reposyncd.store.process.inline import InlineIndex
from reposyncd.store.process.worker import IndexWorker
from tests.local_index import descriptors
from tests.support import until

NAMES: Sequence[str] = list(KINDS)

_EMBED = create(EmbedderSpec("hashing")).embed


def settings(state: Path) -> StoreSettings:
    return StoreSettings(str(state), lock_timeout_s=5)


def address(name: str, state: Path) -> StoreAddress:
    """Of the store of this kind in a state directory."""
    return KINDS[name].address(settings(state))


@contextmanager
def opened(name: str, state: Path) -> Iterator[Collections]:
    backend = KINDS[name].backend(address(name, state).arguments(), lambda reason: None)
    yield backend.collections
    backend.close()


def index(name: str, state: Path) -> InlineIndex:
    """An index on the store; `release` returns when the store has closed its files."""
    return _Index(lambda: address(name, state), state)


def admin(name: str, state: Path) -> StoreAdmin:
    return KINDS[name].admin(lambda: settings(state), lambda found, log_name: _Index(lambda: found, state))


class _Index(InlineIndex):
    def __init__(self, find: Callable[[], StoreAddress], state: Path) -> None:
        self._state = str(state)

        def make() -> IndexWorker:
            found = find()
            return IndexWorker(KINDS[found.kind].backend(found.arguments(), lambda reason: None), _EMBED)

        super().__init__(make)

    def release(self) -> None:
        was_open = bool(self.session)
        super().release()
        if was_open:  # else whatever is open now is another's, such as a lock
            until(lambda: not descriptors(self._state), "the store is closed")
