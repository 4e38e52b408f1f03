"""The index process: owns the Chroma client and the embedder, and does what it is told over a socket.

Started by `process.IndexProcess`, through `reposyncd.child`, as a fresh interpreter, never a fork: a forked Chroma
client hangs. Requests are (number, operation, arguments), replies (number, value or error), both pickled by
`multiprocessing.connection` over a socket that only the parent has. It leaves when that socket closes.

Requests pass two threads in order: one prepares (has the texts embedded, by a process of its own), one stores.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from reposyncd.errors import (
    CorruptStoreError,
    ReposyncError,
    StoreBusyError,
    StoreError,
    TransientStoreError,
)
from reposyncd.model import Applied, Batch, Hit, Record
from reposyncd.store.locks import chroma_lock

if TYPE_CHECKING:
    import numpy as np

    from reposyncd.store.chroma import ChromaStore

    Vectors = np.ndarray[Any, np.dtype[np.float32]]

Embed = Callable[[list[str]], "Vectors"]

_PREPARED_AHEAD = 2
"""Embedded batches that may wait for the store: one being stored, one ready, so that neither side idles."""


class Index:
    """The operations of `ports.VectorIndex` on one Chroma directory, each split into its two steps."""

    def __init__(self, chroma_dir: str, embed: Embed, lock_timeout_s: float) -> None:
        self._dir = chroma_dir
        self._embed = embed
        self._lock_timeout_s = lock_timeout_s
        self._store: ChromaStore | None = None

    @property
    def store(self) -> ChromaStore:
        """The open store; opened at first use, under the lock."""
        if self._store is None:
            from reposyncd.store.chroma import ChromaStore

            os.makedirs(self._dir, mode=0o700, exist_ok=True)
            with self.locked():
                self._store = ChromaStore(self._dir)
        return self._store

    def locked(self) -> Any:
        """The lock around every write, shared with other ChromaDB programs."""
        return chroma_lock(self._dir, self._lock_timeout_s)

    def prepare(self, operation: str, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """The first step: the texts are embedded."""
        if operation == "apply":
            collection, batch = arguments
            texts = list({chunk.text: None for chunk in batch.added if chunk.source is None})
            return collection, batch, texts, self._embed(texts) if texts else None
        if operation == "query":
            collection, text, limit = arguments
            return collection, self._embed([text])[0], limit
        return arguments

    def perform(self, operation: str, arguments: tuple[Any, ...]) -> Any:
        """The second step: the store is read or written."""
        return getattr(self, operation)(*arguments)

    def open(self, collection: str, metadata: dict[str, str]) -> int:
        store = self.store
        with self.locked():
            return store.open(collection, metadata)

    def apply(self, collection: str, batch: Batch, texts: list[str], vectors: Vectors | None) -> Applied:
        import numpy as np

        embedded, characters = len(texts), sum(map(len, texts))
        by_text = dict(zip(texts, vectors, strict=True)) if vectors is not None else {}
        copied = self.store.vectors(collection, sorted({c.source for c in batch.added if c.source is not None}))
        by_text |= {c.text: copied[c.source] for c in batch.added if c.source in copied}
        # A source may have been deleted since it was looked up, and its text is embedded after all.
        missing = list({c.text: None for c in batch.added if c.text not in by_text})
        if missing:
            by_text |= dict(zip(missing, self._embed(missing), strict=True))
            embedded, characters = embedded + len(missing), characters + sum(map(len, missing))
        with self.locked():
            if batch.added:
                self.store.upsert(
                    collection,
                    [chunk.row.id for chunk in batch.added],
                    [chunk.text for chunk in batch.added],
                    np.stack([by_text[chunk.text] for chunk in batch.added]).astype(np.float32, copy=False),
                    [chunk.row.metadata(batch.repo) for chunk in batch.added],
                )
            self.store.relabel(
                collection,
                [row.id for row in batch.relabelled],
                [row.metadata(batch.repo) for row in batch.relabelled],
            )
        return Applied(embedded, characters)

    def delete(self, collection: str, ids: list[str]) -> None:
        with self.locked():
            self.store.delete(collection, ids)

    def drop(self, collection: str) -> None:
        with self.locked():
            self.store.drop(collection)

    def ids(self, collection: str) -> set[str]:
        return self.store.ids(collection)

    def records(self, collection: str) -> list[Record]:
        return self.store.records(collection)

    def query(self, collection: str, vector: Vectors, limit: int) -> list[Hit]:
        return self.store.query(collection, vector, limit)


def serve(connection: Connection, index: Index) -> None:
    """Does requests in order until the parent is gone."""
    received: queue.SimpleQueue[tuple[int, str, tuple[Any, ...]]] = queue.SimpleQueue()
    prepared: queue.Queue[tuple[int, str, tuple[Any, ...] | BaseException]] = queue.Queue(_PREPARED_AHEAD)

    def receive() -> None:
        try:
            while True:
                received.put(connection.recv())
        finally:  # EOF, or a request that cannot be read
            # The parent is gone and nobody waits. Whatever is half done, the next run finds its intents.
            os._exit(0)

    def prepare() -> None:
        while True:
            number, operation, arguments = received.get()
            try:
                prepared.put((number, operation, index.prepare(operation, arguments)))
            except Exception as error:
                prepared.put((number, operation, error))

    for target in (receive, prepare):
        threading.Thread(target=target, name=target.__name__, daemon=True).start()
    while True:
        number, operation, arguments = prepared.get()
        reply: tuple[int, bool, Any]
        try:
            if isinstance(arguments, BaseException):
                raise arguments
            reply = (number, True, index.perform(operation, arguments))
        except BaseException as error:
            # BaseException: a panic in Chroma's Rust code arrives as one.
            reply = (number, False, portable(operation, error))
        connection.send(reply)
        if isinstance(reply[2], TransientStoreError) and not isinstance(reply[2], StoreBusyError):
            # After a full disk or the like Chroma's client fails, or hangs, for good; a new process does not.
            os._exit(1)


def portable(operation: str, error: BaseException) -> ReposyncError:
    """The error as one of ours, which survives pickling."""
    if isinstance(error, ReposyncError):
        return type(error)(*error.args)
    kind = StoreError if isinstance(error, Exception) else CorruptStoreError
    return kind(f"{operation} failed in the index process: {type(error).__name__}: {error}")
