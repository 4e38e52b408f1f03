"""The index process's work on a real Chroma, done in this process: opened in milliseconds, and it counts what it does.

For tests of one thread. (Two copies of SQLite in one process do not see each other's locks; nothing here holds one
from one call to the next.)
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from reposyncd.embedding import EmbedderSpec, create
from reposyncd.model import Applied, Batch, Hit, Record, Waiting
from reposyncd.store.process.worker import Index
from tests.support import until

_LOCK_TIMEOUT_S = 5.0
"""Nobody else holds the lock."""


def descriptors(path: str) -> set[str]:
    """Those of this process on files of the store at `path`."""
    place, found = os.path.realpath(path) + os.sep, set()
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            if os.readlink(f"/proc/self/fd/{number}").startswith(place):
                found.add(number)
    return found


def close(client: Any, path: str, before: set[str]) -> None:
    """Closes a client of Chroma, and returns when the descriptors are those from before. It closes its files when it
    likes, and with the first of them all locks that this process has on the database are gone."""
    client.close()
    until(lambda: descriptors(path) <= before, "the store is closed")


class LocalIndex:
    """A `ports.VectorIndex` on the store at `path`, which may be a link."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._index: Index | None = None
        self.life = 0
        self.stalled_s = 0.0
        self.on_wait: Callable[[Waiting | None], None] = lambda waiting: None
        self.compared: list[str] = []
        """collections whose records were all looked at"""
        self.logged: Counter[str] = Counter()
        """rows that were added to Chroma's log, by collection"""

    def _do(self, operation: str, *arguments: Any) -> Any:
        if self._index is None:
            self._index = Index(os.path.realpath(self._path), create(EmbedderSpec("hashing")).embed, _LOCK_TIMEOUT_S)
            self.life += 1
        return self._index.perform(operation, self._index.prepare(operation, arguments))

    def start(self) -> None:
        return None

    def release(self) -> None:
        index, self._index = self._index, None
        if index and index._database:
            index._database.close()
        if index and index._store:
            close(index._store._client, index._dir, set())

    def close(self) -> None:
        """It stays open, as in a service; until `release`."""

    abandon = close

    def open(self, collection: str, metadata: Mapping[str, str]) -> int:
        return int(self._do("open", collection, dict(metadata)))

    def apply(self, collection: str, batch: Batch) -> Future[Applied]:
        self.logged[collection] += len(batch.added) + len(batch.relabelled)
        return _done(self._do("apply", collection, batch))

    def delete(self, collection: str, ids: Sequence[str]) -> Future[None]:
        self.logged[collection] += len(ids)
        return _done(self._do("delete", collection, list(ids)))

    def drop(self, collection: str) -> None:
        del self.logged[collection]
        self._do("drop", collection)

    def collections(self) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = self._do("collections")
        return found

    def probe(self, collection: str) -> None:
        self._do("probe", collection)

    def ids(self, collection: str) -> set[str]:
        found: set[str] = self._do("ids", collection)
        return found

    def labels(self, collection: str) -> dict[str, int]:
        self.compared.append(collection)
        found: dict[str, int] = self._do("labels", collection)
        return found

    def records(self, collection: str, ids: Sequence[str] | None = None) -> list[Record]:
        found: list[Record] = self._do("records", collection, None if ids is None else list(ids))
        return found

    def embed(self, texts: Sequence[str]) -> list[tuple[float, ...]]:
        found: list[tuple[float, ...]] = self._do("embed", list(texts))
        return found

    def query(self, collection: str, wanted: str | Sequence[float], limit: int) -> list[Hit]:
        found: list[Hit] = self._do("query", collection, wanted, limit)
        return found


class LocalPersister(LocalIndex):
    """A `checkpoint.Persister`."""

    def persist(self, compact: Sequence[str]) -> None:
        self._do("persist", list(compact))

    def count(self, collection: str) -> int:
        return int(self._do("count", collection))

    def close(self) -> None:
        self.release()


def _done(value: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(value)
    return future
