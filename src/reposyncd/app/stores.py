"""The kinds of store. A new kind is a module of its own, and one line in `KINDS`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from reposyncd.ports import StoreStatus
from reposyncd.store.chroma.embedded import EMBEDDED
from reposyncd.store.kinds import NO_STORE, StoreKind

if TYPE_CHECKING:
    from reposyncd.store.process.worker import Backend

KINDS: dict[str, StoreKind] = {
    "embedded": EMBEDDED,
}
"""Kinds by name. There is no configuration key for the choice yet: `DEFAULT` is used."""

DEFAULT = KINDS["embedded"]


def store_status(state_dir: str) -> StoreStatus:
    """What `status` shows of the store in this state directory."""
    return DEFAULT.status(state_dir)


def store_files() -> list[str]:
    """Patterns for the names of all files that stores create in a state directory; see `StoreKind.files`."""
    return [pattern for kind in KINDS.values() for pattern in kind.files]


def backend(kind: str, arguments: Sequence[str], on_wait: Callable[[str], None]) -> Backend:
    """The store at an address, for use in the index process; see `StoreKind.backend`."""
    return NO_STORE if kind == NO_STORE.kind else KINDS[kind].backend(arguments, on_wait)
