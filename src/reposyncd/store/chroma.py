"""Chroma, seen as collections of records. Runs only inside the index process; the one module that knows chromadb.

Errors of chromadb are translated here: TransientStoreError, PermanentStoreError, CorruptStoreError.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from reposyncd.errors import CorruptStoreError, PermanentStoreError, StoreError, TransientStoreError
from reposyncd.model import Hit, Record

if TYPE_CHECKING:
    import numpy as np
    from chromadb.api.models.Collection import Collection

_SYNC_THRESHOLD = 10_000_000
"""Writes between two persists of the vector index. Chroma persists in place, and dies of a crash in the middle;
at this size it never does so by itself, and every acknowledged write is in SQLite."""

_SLICE = 1000
"""Records in one call: the fastest size measured, and under Chroma's limit of 5,461."""

_TRANSIENT_SIGNS = (
    "locked",
    "busy",
    "full",
    "readonly",
    "read-only",
    "i/o error",
    "timed out",
    "unable to open",
)
"""What SQLite's passing troubles are called in the text of Chroma's InternalError, which has no code."""


class ChromaStore:
    """The Chroma directory at `path`, made if absent (0700). One process at a time may have it open."""

    def __init__(self, path: str) -> None:
        import chromadb
        from chromadb.config import Settings

        os.makedirs(path, mode=0o700, exist_ok=True)
        with _translated():
            self._client = chromadb.PersistentClient(path, settings=Settings(anonymized_telemetry=False))
        self._collections: dict[str, Collection] = {}

    def open(self, name: str, metadata: Mapping[str, str]) -> int:
        """Makes the collection if it is absent, and returns how many records it has; its metadata are replaced."""
        with _translated():
            collection = self._client.get_or_create_collection(
                name,
                metadata=dict(metadata),
                embedding_function=None,
                configuration={"hnsw": {"space": "cosine", "sync_threshold": _SYNC_THRESHOLD}},
            )
            if collection.metadata != dict(metadata):
                collection.modify(metadata=dict(metadata))
            self._collections[name] = collection
            return collection.count()

    def upsert(
        self,
        name: str,
        ids: Sequence[str],
        texts: Sequence[str],
        vectors: np.ndarray[Any, np.dtype[np.float32]],
        metadatas: Sequence[Mapping[str, str | int]],
    ) -> None:
        """Stores records, whole; `vectors` is float32 (n, dimension) with rows of unit length."""
        collection = self._collection(name)
        for part in _slices(len(ids)):
            with _translated():
                collection.upsert(
                    ids=list(ids[part]),
                    embeddings=vectors[part],
                    documents=list(texts[part]),
                    metadatas=[dict(metadata) for metadata in metadatas[part]],
                )

    def relabel(self, name: str, ids: Sequence[str], metadatas: Sequence[Mapping[str, str | int]]) -> None:
        """Replaces the metadata of records that exist; the others are ignored."""
        collection = self._collection(name)
        for part in _slices(len(ids)):
            with _translated():
                collection.update(ids=list(ids[part]), metadatas=[dict(metadata) for metadata in metadatas[part]])

    def delete(self, name: str, ids: Sequence[str]) -> None:
        """Deletes records; ids that are absent are ignored."""
        collection = self._collection(name)
        for part in _slices(len(ids)):
            with _translated():
                collection.delete(ids=list(ids[part]))

    def drop(self, name: str) -> None:
        """Deletes a collection if it is there."""
        from chromadb.errors import NotFoundError

        self._collections.pop(name, None)
        with _translated(), suppress(NotFoundError):
            self._client.delete_collection(name)

    def ids(self, name: str) -> set[str]:
        """The ids of every record."""
        with _translated():
            return set(self._collection(name).get(include=[])["ids"])

    def vectors(self, name: str, ids: Sequence[str]) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
        """The vectors of those records that exist."""
        found: dict[str, Any] = {}
        for part in _slices(len(ids)):
            with _translated():
                got = self._collection(name).get(ids=list(ids[part]), include=["embeddings"])
            found.update(zip(got["ids"], got["embeddings"] if got["embeddings"] is not None else (), strict=True))
        return found

    def records(self, name: str) -> list[Record]:
        """Every record, vectors included."""
        with _translated():
            got: Any = self._collection(name).get(include=["documents", "metadatas", "embeddings"])
        return [
            Record(id, text, dict(metadata), tuple(float(x) for x in vector))
            for id, text, metadata, vector in zip(
                got["ids"], got["documents"], got["metadatas"], got["embeddings"], strict=True
            )
        ]

    def query(self, name: str, vector: np.ndarray[Any, np.dtype[np.float32]], limit: int) -> list[Hit]:
        """The `limit` records nearest to the vector (dimension,), best first."""
        with _translated():
            got: Any = self._collection(name).query(
                query_embeddings=vector[None, :],
                n_results=limit,
                include=["documents", "metadatas", "distances"],
            )
        return [
            # Rounding can take the distance of equal vectors below 0.
            Hit(text=text, score=min(1.0, 1.0 - distance), **metadata)
            for text, metadata, distance in zip(
                got["documents"][0], got["metadatas"][0], got["distances"][0], strict=True
            )
        ]

    def _collection(self, name: str) -> Collection:
        if name not in self._collections:
            with _translated():
                self._collections[name] = self._client.get_collection(name, embedding_function=None)
        return self._collections[name]


def _slices(n: int) -> Iterator[slice]:
    """Chroma raises for an empty call, and for one over its maximum."""
    return (slice(start, start + _SLICE) for start in range(0, n, _SLICE))


@contextmanager
def _translated() -> Iterator[None]:
    from chromadb.errors import ChromaError, InternalError, NotFoundError

    try:
        yield
    except StoreError:
        raise
    except NotFoundError as error:
        raise CorruptStoreError(f"Chroma has lost a collection: {error}") from error
    except InternalError as error:
        message = str(error)
        if any(sign in message.lower() for sign in _TRANSIENT_SIGNS):
            raise TransientStoreError(f"Chroma cannot write now: {message}") from error
        raise CorruptStoreError(f"Chroma contradicts itself: {message}") from error
    except (ChromaError, ValueError, TypeError) as error:
        raise PermanentStoreError(f"Chroma refuses: {error}") from error
    except OSError as error:
        raise TransientStoreError(f"Chroma's directory: {error}") from error
