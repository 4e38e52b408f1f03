"""The embedded Chroma directory, inside the index process: opening, locking, and operations that only Chroma can do."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, BinaryIO

from reposyncd.errors import TransientStoreError
from reposyncd.store.chroma.inspection import survey
from reposyncd.store.chroma.locks import DATABASE, NO_LOCK, chroma_lock, wait_for_database
from reposyncd.store.chroma.salvaged import SalvagedVectors

if TYPE_CHECKING:
    from reposyncd.ports import Vectors
    from reposyncd.store.chroma.collections import ChromaCollections


class EmbeddedBackend:
    """A `worker.Backend` on the Chroma directory at `path`, which must exist.

    `lock_timeout_s` is how long to wait for other programs; NO_LOCK: there are none. `on_wait` is called with what the
    store waits for. `salvage` is the path of the file that may have vectors of an earlier store.
    """

    def __init__(
        self,
        path: str,
        lock_timeout_s: float,
        salvage: str = "",
        on_wait: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self.path = path
        self._lock_timeout_s = lock_timeout_s
        self._salvaged = SalvagedVectors(salvage)
        self._on_wait = on_wait
        self._store: ChromaCollections | None = None
        self._database: BinaryIO | None = None

    @classmethod
    def from_arguments(cls, arguments: Sequence[str], on_wait: Callable[[str], None]) -> EmbeddedBackend:
        """Made from what `address.EmbeddedAddress.arguments` returns in the parent."""
        path, lock_timeout_s, salvage = arguments
        return cls(path, float(lock_timeout_s), salvage, on_wait)

    @property
    def collections(self) -> ChromaCollections:
        """See `worker.Backend`."""
        if self._store is None:
            from reposyncd.store.chroma.collections import ChromaCollections

            if not os.path.isdir(self.path):  # it must not be created: another directory may serve now
                raise TransientStoreError(f"{self.path} is gone")
            with self.writing():  # opening a store writes a row
                self._store = ChromaCollections(self.path)
        return self._store

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Holds the lock that is shared with other ChromaDB programs, when none of them has a transaction open."""
        if self._lock_timeout_s == NO_LOCK:
            yield
            return
        deadline = time.monotonic() + self._lock_timeout_s
        with chroma_lock(self.path, self._lock_timeout_s, self._on_wait):
            if self._database is None:
                with suppress(FileNotFoundError):  # Chroma creates it
                    # It is closed together with the store, and not before: see `wait_for_database`.
                    self._database = open(os.path.join(self.path, DATABASE), "rb")  # noqa: SIM115
            if self._database is not None:
                left_s = max(0.0, deadline - time.monotonic())
                wait_for_database(self._database.fileno(), self.path, left_s, self._on_wait)
            yield

    def known_vectors(
        self, texts: Sequence[str], embed: Callable[[list[str]], Vectors]
    ) -> tuple[dict[str, Any], Sequence[str]]:
        """The vectors that were salvaged from a damaged store."""
        return self._salvaged.vectors(texts, embed)

    @property
    def maintenance(self) -> Mapping[str, Callable[..., Any]]:
        """The operations of `maintenance.Maintenance`."""
        return {"persist": self._persist, "survey": self._survey, "read": self._read}

    def close(self) -> None:
        """Closes the store, then the database."""
        if self._store is not None:
            self._store.close()
            self._store = None
        if self._database is not None:
            self._database.close()
            self._database = None

    def _persist(self, compact: Sequence[str]) -> None:
        self.collections.persist(compact)

    def _survey(self) -> None:
        with self.writing():
            survey(self.path)

    def _read(self, collection: str, ids: Sequence[str]) -> None:
        self.collections.read(collection, ids)
