"""`ports.Collections` in Chroma, used only in the index process. Only this module knows chromadb, whose errors it
translates to TransientStoreError, PermanentStoreError and CorruptStoreError."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, cast

from reposyncd.errors import (
    CorruptStoreError,
    PermanentStoreError,
    StoreError,
    SuspectStoreError,
    TransientStoreError,
)
from reposyncd.model import Hit, Record
from reposyncd.ports import hit_of, label
from reposyncd.store.chroma.database import FEWEST_PERSISTED

if TYPE_CHECKING:
    import numpy as np
    from chromadb.api.client import Client
    from chromadb.api.models.Collection import Collection

_SYNC_THRESHOLD = 10_000_000
"""After how many writes Chroma persists its vector index. It does that in place, and a crash in the middle ruins the
index. With a number this high, it never does that by itself. Every acknowledged write is in SQLite."""

_CONFIGURATION: Any = {"hnsw": {"space": "cosine", "sync_threshold": _SYNC_THRESHOLD}}

_REWRITTEN = ".rewritten"
"""Suffix of a collection's name while records are copied into it."""

_SLICE = 1000
"""Records in one call: the fastest of the measured sizes, and below Chroma's limit of 5,461."""

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
"""How the text of Chroma's InternalError, which has no code, refers to SQLite errors that may pass."""

_DAMAGE_SIGNS = (
    "malformed",
    "not a database",
    "no such table",
    "Error loading hnsw index",
    "Error deserializing pickle file",
    "Error getting embedding",
    "Error finding id",
)
"""How it refers to a damaged store. Any other text may be the consequence of a disk error."""

_PHRASES = (
    "database is locked",
    "database table is locked",
    "database or disk is full",
    "database disk image is malformed",
    "attempt to write a readonly database",
    "disk I/O error",
    "unable to open database file",
    "file is not a database",
    "no such table",
    "timed out",
    "Error loading hnsw index",
    "Error deserializing pickle file",
    "Error getting embedding",
    "Error finding id",
    "Error executing plan",
    "Failed to pull logs from the log store",
    "Failed to apply logs",
    "expecting embedding with dimension",
)
"""The parts of Chroma's and SQLite's messages that say what is wrong, and quote nothing that is stored."""


class ChromaCollections:
    """`ports.Collections` in the Chroma directory at `path`, created if absent (0700). Only one process at a time may
    have it open."""

    def __init__(self, path: str) -> None:
        os.makedirs(path, mode=0o700, exist_ok=True)
        self._path = path
        with _translated():
            self._client = _open(path)
        self._collections: dict[str, Collection] = {}

    def open(self, name: str, metadata: Mapping[str, str]) -> int:
        """See `ports.Collections`. The same applies to every method without a docstring of its own."""
        with _translated():
            collection = self._client.get_or_create_collection(
                name,
                metadata=dict(metadata),
                embedding_function=None,
                configuration=_CONFIGURATION,
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
        collection = self._collection(name)
        for part in _slices(len(ids)):
            with _translated():
                collection.upsert(
                    ids=list(ids[part]),
                    embeddings=vectors[part],
                    documents=list(texts[part]),
                    metadatas=[dict(metadata) for metadata in metadatas[part]],
                )

    def update(self, name: str, ids: Sequence[str], metadatas: Sequence[Mapping[str, str | int]]) -> None:
        collection = self._collection(name)
        for part in _slices(len(ids)):
            with _translated():
                collection.update(ids=list(ids[part]), metadatas=[dict(metadata) for metadata in metadatas[part]])

    def delete(self, name: str, ids: Sequence[str]) -> None:
        collection = self._collection(name)
        for part in _slices(len(ids)):
            with _translated():
                collection.delete(ids=list(ids[part]))

    def drop(self, name: str) -> None:
        from chromadb.errors import NotFoundError

        self._collections.pop(name, None)
        with _translated(), suppress(NotFoundError):
            self._client.delete_collection(name)

    def close(self) -> None:
        """Closes the client. Chroma itself closes its files some time later."""
        self._client.close()

    def ids(self, name: str) -> set[str]:
        with _translated():
            return set(self._collection(name).get(include=[])["ids"])

    def vectors(self, name: str, ids: Sequence[str]) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
        found: dict[str, Any] = {}
        for part in _slices(len(ids)):
            with _translated():
                got = self._collection(name).get(ids=list(ids[part]), include=["embeddings"])
            found.update(zip(got["ids"], got["embeddings"] if got["embeddings"] is not None else (), strict=True))
        return found

    def collections(self) -> dict[str, dict[str, str]]:
        with _translated():
            return {each.name: {k: str(v) for k, v in (each.metadata or {}).items()} for each in self._all()}

    def _all(self) -> list[Collection]:
        found: list[Collection] = []
        while more := self._client.list_collections(limit=_SLICE, offset=len(found)):
            found += more
        return found

    def count(self, name: str) -> int:
        with _translated():
            return self._collection(name).count()

    def probe(self, name: str) -> None:
        collection = self._collection(name)
        with _translated():
            count = collection.count()
            if not count:
                return
            got: Any = collection.get(limit=1, include=["documents", "metadatas", "embeddings"])
            if not got["ids"] or len(got["embeddings"]) != 1 or got["documents"][0] is None:
                raise CorruptStoreError(f"of {count} records in {name} none can be read")
            found = collection.query(query_embeddings=got["embeddings"], n_results=1, include=["distances"])
            if not found["ids"][0]:
                raise CorruptStoreError(f"of {count} records in {name} none is found")

    def labels(self, name: str) -> dict[str, int]:
        collection = self._collection(name)
        found: dict[str, int] = {}
        ids = list(self.ids(name))
        for part in _slices(len(ids)):
            with _translated():
                got: Any = collection.get(ids=ids[part], include=["metadatas"])
            found.update((id, label(metadata or {})) for id, metadata in zip(got["ids"], got["metadatas"], strict=True))
        return found

    def records(self, name: str, ids: Sequence[str] | None = None) -> list[Record]:
        collection = self._collection(name)
        found: list[Record] = []
        wanted = sorted(self.ids(name)) if ids is None else ids
        for part in _slices(len(wanted)):
            with _translated():
                got: Any = collection.get(ids=list(wanted[part]), include=["documents", "metadatas", "embeddings"])
            found += [
                Record(id, text, dict(metadata or {}), tuple(float(x) for x in vector))
                for id, text, metadata, vector in zip(
                    got["ids"], got["documents"], got["metadatas"], got["embeddings"], strict=True
                )
            ]
        return found

    def read(self, name: str, ids: Sequence[str]) -> None:
        """Reads these records with their vectors. Raises CorruptStoreError if that fails."""
        collection = self._collection(name)
        for part in _slices(len(ids)):
            with _translated():
                collection.get(ids=list(ids[part]), include=["documents", "metadatas", "embeddings"])

    def persist(self, compact: Sequence[str]) -> None:
        """See `maintenance.Maintenance`. Not safe against a crash, because Chroma writes its files in place. Closes the
        store at the end."""
        with _translated():
            for name in compact:
                self._rewrite(name)
            for collection in self._all():
                # Chroma reads this only when a client opens the collection.
                collection.modify(configuration={"hnsw": {"sync_threshold": FEWEST_PERSISTED}})
            self._client.close()
            self._client = _open(self._path)
            for collection in self._all():
                collection.count()
                collection.get(limit=1, include=["embeddings"])
                collection.modify(configuration={"hnsw": {"sync_threshold": _SYNC_THRESHOLD}})
            self._client.close()
            self._collections.clear()

    def _rewrite(self, name: str) -> None:
        """Replaces the collection by a new one with the same records, and no deleted ones."""
        old = self._client.get_collection(name, embedding_function=None)
        new = self._client.create_collection(
            name + _REWRITTEN, metadata=old.metadata, embedding_function=None, configuration=_CONFIGURATION
        )
        ids = old.get(include=[])["ids"]
        for part in _slices(len(ids)):
            got: Any = old.get(ids=ids[part], include=["documents", "metadatas", "embeddings"])
            new.upsert(**{key: got[key] for key in ("ids", "documents", "metadatas", "embeddings")})
        self._client.delete_collection(name)
        new.modify(name=name)

    def query(self, name: str, vector: np.ndarray[Any, np.dtype[np.float32]], limit: int) -> list[Hit]:
        with _translated():
            got: Any = self._collection(name).query(
                query_embeddings=vector[None, :],
                n_results=limit,
                include=["documents", "metadatas", "distances"],
            )
        found = zip(got["documents"][0], got["metadatas"][0], got["distances"][0], strict=True)
        hits = (hit_of(text, metadata, 1.0 - distance) for text, metadata, distance in found)
        return [hit for hit in hits if hit]

    def _collection(self, name: str) -> Collection:
        if name not in self._collections:
            with _translated():
                self._collections[name] = self._client.get_collection(name, embedding_function=None)
        return self._collections[name]


def _slices(n: int) -> Iterator[slice]:
    """Slices of n records for several calls. Chroma raises an error for a call with no records, or with too many."""
    return (slice(start, start + _SLICE) for start in range(0, n, _SLICE))


def _open(path: str) -> Client:
    import chromadb
    from chromadb.config import Settings

    client = chromadb.PersistentClient(path, settings=Settings(anonymized_telemetry=False))
    return cast("Client", client)  # whose `close` the declared interface lacks


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
        message = str(error).lower()
        if any(sign in message for sign in _TRANSIENT_SIGNS):
            raise TransientStoreError(f"Chroma cannot write now: {_safe_text(error)}") from error
        kind = CorruptStoreError if any(sign in str(error) for sign in _DAMAGE_SIGNS) else SuspectStoreError
        raise kind(f"Chroma contradicts itself: {_safe_text(error)}") from error
    except (ChromaError, ValueError, TypeError) as error:
        raise PermanentStoreError(f"Chroma refuses: {_safe_text(error)}") from error
    except OSError as error:
        raise TransientStoreError(f"Chroma's directory: {error}") from error


def _safe_text(error: Exception) -> str:
    """What can be said of an error whose text may quote a document: its kind, and the `_PHRASES` in it, in their order.
    The log of the index process has the whole text."""
    text = str(error)
    found = [phrase for phrase in _PHRASES if phrase in text]
    return ": ".join([type(error).__name__, *sorted(found, key=text.index)])
