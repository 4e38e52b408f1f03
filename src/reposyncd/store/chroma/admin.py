"""`ports.StoreAdmin` for a Chroma directory in the state directory."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from reposyncd.errors import NoSpaceError, StoreError
from reposyncd.store import space
from reposyncd.store.chroma import checkpoint, checksums, inspection, salvage, stamp
from reposyncd.store.chroma.address import EmbeddedAddress
from reposyncd.store.chroma.locks import NO_LOCK
from reposyncd.store.chroma.maintenance import Maintenance
from reposyncd.store.chroma.status import EmbeddedStatus
from reposyncd.store.kinds import Start, StoreSettings

_CHUNK_BYTES = 20_480
"""How much space storing a chunk may take: about 10 KB remain, and SQLite's journal holds the replaced pages. Space is
checked before it is needed, because Chroma's client cannot be used any more after a failed write."""


class EmbeddedAdmin(EmbeddedStatus):
    """A `ports.StoreAdmin`.

    `settings` returns the present settings. `start` starts a process on a directory, which never embeds.
    """

    def __init__(self, settings: Callable[[], StoreSettings], start: Start) -> None:
        super().__init__(settings().state_dir)
        self._settings = settings
        self._start = start

    def ensure(self) -> None:
        """See `ports.StoreAdmin`, as for the methods that follow."""
        self._directory.ensure()

    def is_empty(self) -> bool:
        return self._directory.is_empty()

    def stamp(self) -> str:
        current = self._directory.current()
        return "" if current is None else str(stamp.take(current))

    def recognise(self, recorded: str) -> str | None:
        current = self._directory.current()
        found = stamp.recognise(stamp.Stamp.parse(recorded), current) if recorded and current else None
        return None if found is None else str(found)

    def check(self) -> None:
        if current := self._directory.current():
            checksums.check(current)

    def require_space(self, chunks: int) -> None:
        needed, purpose = chunks * _CHUNK_BYTES, f"storing the next {chunks:,} chunks"
        try:
            space.require(self._state_dir, needed, purpose)
        except NoSpaceError:
            if not self._directory.empty_quarantine():
                raise
            space.require(self._state_dir, needed, purpose)

    def inspect(self, collections: Sequence[str], on_wait: Callable[[], None]) -> None:
        current = self._directory.current()
        if current is None or self.is_empty():
            return
        address = EmbeddedAddress(
            current,
            self._settings().lock_timeout_s,
            more_slack_s=inspection.size(current) * inspection.READ_S_PER_BYTE,
        )
        with Maintenance(self._start(address, "look.log"), lambda waiting: on_wait()) as process:
            inspection.inspect(process, collections)

    def is_checkpoint_due(self, live: Mapping[str, int]) -> bool:
        with _translated():
            return not self.is_empty() and checkpoint.is_due(
                checkpoint.examine(self._directory.link), sum(live.values())
            )

    def checkpoint(self, live: Mapping[str, int], *, release: Callable[[], None], on_wait: Callable[[], None]) -> None:
        def maintain(path: str) -> Maintenance:
            return Maintenance(self._start(EmbeddedAddress(path, NO_LOCK), "checkpoint.log"), lambda waiting: on_wait())

        try:
            with _translated():
                steps = checkpoint.Checkpoint(
                    self._directory,
                    live,
                    maintain=maintain,
                    release=release,
                    lock_timeout_s=self._settings().lock_timeout_s,
                ).steps()
                release()  # two open stores need too much memory for a small machine
                for step in steps:
                    on_wait()
                    step()
        finally:
            self._directory.clean()

    def quarantine(self) -> str:
        return self._directory.quarantine()

    def salvage(self, place: str, manifest: str, fingerprint: str, on_wait: Callable[[], None]) -> str:
        return salvage.salvage(self._state_dir, place, manifest, fingerprint, on_wait)

    def discard_salvage(self) -> None:
        salvage.discard(self._state_dir)


@contextmanager
def _translated() -> Iterator[None]:
    """Translates the errors of the file system and the database."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise StoreError(str(error)) from error
