"""A `ports.VectorIndex` in memory: for tests, and for users of the Python API that want no files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from reposyncd.errors import CorruptStoreError
from reposyncd.model import Applied, Batch, Hit, Record, Waiting
from reposyncd.ports import label

if TYPE_CHECKING:
    import numpy as np


T = TypeVar("T")


class MemoryIndex:
    """Collections in dicts. `embed` takes n texts to a float32 array (n, dimension) of unit rows."""

    def __init__(self, embed: Callable[[list[str]], np.ndarray[Any, np.dtype[np.float32]]]) -> None:
        self._embed = embed
        self._collections: dict[str, dict[str, Record]] = {}
        self.life = 1
        self.on_wait: Callable[[Waiting | None], None] = lambda waiting: None  # never called: nothing waits
        self._metadata: dict[str, dict[str, str]] = {}

    def start(self) -> None:
        """Always ready."""

    @property
    def stalled_s(self) -> float:
        return 0.0

    def abandon(self) -> None:
        return None

    def open(self, collection: str, metadata: Mapping[str, str]) -> int:
        self._metadata[collection] = dict(metadata)
        return len(self._collections.setdefault(collection, {}))

    def apply(self, collection: str, batch: Batch) -> Future[Applied]:
        return _done(lambda: self._apply(self._get(collection), batch))

    def _apply(self, records: dict[str, Record], batch: Batch) -> Applied:
        vectors = {chunk.text: records[chunk.source].vector for chunk in batch.added if chunk.source in records}
        texts = list({chunk.text: None for chunk in batch.added if chunk.text not in vectors})
        if texts:
            vectors |= {text: tuple(float(x) for x in row) for text, row in zip(texts, self._embed(texts), strict=True)}
        for row, text, _ in batch.added:
            records[row.id] = Record(row.id, text, row.metadata(batch.repo), vectors[text])
        for row in batch.relabelled:
            if row.id in records:
                records[row.id] = records[row.id]._replace(metadata=row.metadata(batch.repo))
        return Applied(len(texts), sum(map(len, texts)))

    def delete(self, collection: str, ids: Sequence[str]) -> Future[None]:
        def delete() -> None:
            records = self._get(collection)
            for id in ids:
                records.pop(id, None)

        return _done(delete)

    def drop(self, collection: str) -> None:
        self._collections.pop(collection, None)

    def ids(self, collection: str) -> set[str]:
        return set(self._get(collection))

    def collections(self) -> dict[str, dict[str, str]]:
        return {name: dict(self._metadata[name]) for name in self._collections}

    def probe(self, collection: str) -> None:
        self._get(collection)

    def labels(self, collection: str) -> dict[str, int]:
        return {id: label(record.metadata) for id, record in self._get(collection).items()}

    def records(self, collection: str, ids: Sequence[str] | None = None) -> list[Record]:
        records = self._get(collection)
        return list(records.values()) if ids is None else [records[id] for id in ids if id in records]

    def embed(self, texts: Sequence[str]) -> list[tuple[float, ...]]:
        return [tuple(float(x) for x in row) for row in self._embed(list(texts))] if texts else []

    def query(self, collection: str, wanted: str | Sequence[float], limit: int) -> list[Hit]:
        vector = [float(x) for x in self._embed([wanted])[0]] if isinstance(wanted, str) else wanted
        scored = [
            (sum(a * b for a, b in zip(vector, record.vector, strict=True)), record)
            for record in self._get(collection).values()
        ]
        scored.sort(key=lambda pair: -pair[0])
        return [
            Hit(text=record.text, score=score, **record.metadata)  # type: ignore[arg-type]
            for score, record in scored[:limit]
        ]

    def release(self) -> None:
        """Nothing is held."""

    def close(self) -> None:
        """Nothing is held."""

    def _get(self, collection: str) -> dict[str, Record]:
        if collection not in self._collections:
            raise CorruptStoreError(f"there is no collection {collection}")
        return self._collections[collection]


def _done(operation: Callable[[], T]) -> Future[T]:
    """A future that has what the operation returned or raised."""
    future: Future[T] = Future()
    try:
        future.set_result(operation())
    except Exception as error:
        future.set_exception(error)
    return future
