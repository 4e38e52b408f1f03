"""A store in memory: for tests, and for users of the Python API who do not want files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from reposyncd.errors import CorruptStoreError
from reposyncd.model import Hit, Record
from reposyncd.ports import Metadata, hit_of, label
from reposyncd.store.process.inline import InlineIndex
from reposyncd.store.process.worker import Embed, IndexWorker

if TYPE_CHECKING:
    from reposyncd.ports import Vectors

Stored = dict[str, dict[str, Record]]
"""Records by collection and id."""


class MemoryCollections:
    """`ports.Collections` in dicts. Several threads may use it."""

    def __init__(self) -> None:
        self.stored: Stored = {}
        self.writes = 0
        """how often something was written"""
        self._metadata: dict[str, dict[str, str]] = {}

    def open(self, name: str, metadata: Mapping[str, str]) -> int:
        """See `ports.Collections`, as for every method."""
        self.writes += 1
        self._metadata[name] = dict(metadata)
        return len(self.stored.setdefault(name, {}))

    def drop(self, name: str) -> None:
        self.writes += 1
        self.stored.pop(name, None)

    def collections(self) -> dict[str, dict[str, str]]:
        return {name: dict(self._metadata[name]) for name in self.stored}

    def upsert(
        self, name: str, ids: Sequence[str], texts: Sequence[str], vectors: Vectors, metadatas: Sequence[Metadata]
    ) -> None:
        records = self._records(name)
        self.writes += 1
        for id, text, vector, metadata in zip(ids, texts, vectors.tolist(), metadatas, strict=True):
            records[id] = Record(id, text, dict(metadata), tuple(vector))

    def update(self, name: str, ids: Sequence[str], metadatas: Sequence[Metadata]) -> None:
        records = self._records(name)
        self.writes += 1
        for id, metadata in zip(ids, metadatas, strict=True):
            if id in records:
                records[id] = records[id]._replace(metadata=dict(metadata))

    def delete(self, name: str, ids: Sequence[str]) -> None:
        records = self._records(name)
        self.writes += 1
        for id in ids:
            records.pop(id, None)

    def count(self, name: str) -> int:
        return len(self._records(name))

    def ids(self, name: str) -> set[str]:
        return set(self._records(name))

    def labels(self, name: str) -> dict[str, int]:
        return {record.id: label(record.metadata) for record in self.records(name)}

    def vectors(self, name: str, ids: Sequence[str]) -> dict[str, Any]:
        import numpy as np

        return {record.id: np.array(record.vector, np.float32) for record in self.records(name, ids)}

    def records(self, name: str, ids: Sequence[str] | None = None) -> list[Record]:
        records = self._records(name)
        # If a test has put a record under another id, it counts as that id's record.
        return [records[id]._replace(id=id) for id in (list(records) if ids is None else ids) if id in records]

    def query(self, name: str, vector: Any, limit: int) -> list[Hit]:
        wanted = vector.tolist()
        scored = [
            (sum(a * b for a, b in zip(wanted, record.vector, strict=True)), record) for record in self.records(name)
        ]
        scored.sort(key=lambda pair: -pair[0])
        hits = (hit_of(record.text, record.metadata, score) for score, record in scored[:limit])
        return [hit for hit in hits if hit]

    def probe(self, name: str) -> None:
        self._records(name)

    def clear(self) -> None:
        self.writes += 1
        self.stored.clear()

    def _records(self, name: str) -> dict[str, Record]:
        if name not in self.stored:
            raise CorruptStoreError(f"there is no collection {name}")
        return self.stored[name]


class MemoryBackend:
    """A `worker.Backend` on collections in memory."""

    def __init__(self, collections: MemoryCollections) -> None:
        self._collections = collections

    @property
    def collections(self) -> MemoryCollections:
        """See `worker.Backend`, as for every method."""
        return self._collections

    @contextmanager
    def writing(self) -> Iterator[None]:
        yield

    def known_vectors(self, texts: Sequence[str], embed: Embed) -> tuple[dict[str, Any], Sequence[str]]:
        return {}, ()

    @property
    def maintenance(self) -> Mapping[str, Callable[..., Any]]:
        return {}

    def close(self) -> None:
        """Keeps the collections."""


class MemoryIndex(InlineIndex):
    """A `ports.RunningIndex` in memory. `embed` turns n texts into a float32 array (n, dimension) of unit rows."""

    def __init__(self, embed: Embed) -> None:
        self._embed = embed
        self.store = MemoryCollections()
        super().__init__(lambda: IndexWorker(MemoryBackend(self.store), lambda texts: self._embed(texts)))

    @property
    def stored(self) -> Stored:
        """All records. Tests may change them."""
        return self.store.stored


class MemoryAdmin:
    """A `ports.StoreAdmin` for collections in memory, which nobody else writes to, and which do not survive a crash."""

    def __init__(self, collections: MemoryCollections) -> None:
        self._collections = collections
        self._identity = os.urandom(8).hex()

    @property
    def kind(self) -> str:
        """See `ports.StoreStatus`, as for the methods that follow."""
        return "memory"

    @property
    def location(self) -> str:
        return ""

    def lock_holder(self) -> int | None:
        return None

    def trouble(self) -> str:
        return ""

    def ensure(self) -> None:
        """See `ports.StoreAdmin`, as for the methods that follow."""

    def is_empty(self) -> bool:
        return not self._collections.stored

    def stamp(self) -> str:
        return f"{self._identity} {self._collections.writes}"

    def recognise(self, recorded: str) -> str | None:
        return recorded if recorded == self.stamp() else None

    def check(self) -> None:
        """Does nothing: there are no files."""

    def require_space(self, chunks: int) -> None:
        """Does nothing: no space is reserved."""

    def inspect(self, collections: Sequence[str], on_wait: Callable[[], None]) -> None:
        """Does nothing: memory is not damaged."""

    def is_checkpoint_due(self, live: Mapping[str, int]) -> bool:
        return False

    def checkpoint(self, live: Mapping[str, int], *, release: Callable[[], None], on_wait: Callable[[], None]) -> None:
        """Does nothing: there is no log."""

    def quarantine(self) -> str:
        self._collections.clear()
        return ""

    def salvage(self, place: str, manifest: str, fingerprint: str, on_wait: Callable[[], None]) -> str:
        return ""

    def discard_salvage(self) -> None:
        """Does nothing: nothing was saved."""
