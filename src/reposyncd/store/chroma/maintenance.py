"""Maintenance that only Chroma can do, in a child process that has the directory to itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from reposyncd.ports import OnWait
from reposyncd.store.kinds import MaintenanceProcess


class Maintenance:
    """The operations, until `close` or the end of a `with` block. Raises StoreError, and what `on_wait` raises."""

    def __init__(self, process: MaintenanceProcess, on_wait: OnWait = lambda waiting: None) -> None:
        self._process = process
        self._operations = process.observed(on_wait)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.close()

    def persist(self, compact: Sequence[str]) -> None:
        """Writes every collection's vector index to its files, and empties Chroma's log. The collections in `compact`
        are first rewritten without their deleted records. Not safe against a crash: use it on a copy of a store."""
        self._operations.call("persist", list(compact))

    def survey(self) -> None:
        """See `inspection.survey`. It must be the first operation, before anything else opens the store."""
        self._operations.call("survey")

    def read(self, collection: str, ids: Sequence[str]) -> None:
        """Reads these records with their vectors. Raises CorruptStoreError if that fails."""
        self._operations.call("read", collection, list(ids))

    def collections(self) -> dict[str, dict[str, str]]:
        """The metadata of every collection, by name."""
        found: dict[str, dict[str, str]] = self._operations.call("collections")
        return found

    def count(self, collection: str) -> int:
        """The number of records."""
        return int(self._operations.call("count", collection))

    def probe(self, collection: str) -> None:
        """Reads a record, and searches for it by its vector. Raises CorruptStoreError if that fails."""
        self._operations.call("probe", collection)

    def ids(self, collection: str) -> set[str]:
        """The ids of all records."""
        found: set[str] = self._operations.call("ids", collection)
        return found
