"""The index process: owns the Chroma client and the embedder, and does what it is told over a socket.

Started by `process.IndexProcess`, through `reposyncd.app.child`, as a fresh interpreter, never a fork: a forked Chroma
client hangs. Requests are (number, operation, arguments), replies (number, value or error), both pickled by
`multiprocessing.connection` over a socket that only the parent has; a reply whose number is None is
news: ("waiting", Waiting). The process leaves when that socket closes.

Requests pass two threads in order: one prepares (has the texts embedded, by a process of its own), one stores.
"""

from __future__ import annotations

import os
import queue
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, BinaryIO

from reposyncd.errors import (
    CONCERN_ONE_OPERATION,
    CorruptStoreError,
    ReposyncError,
    StoreError,
    TransientStoreError,
    safe_message,
)
from reposyncd.model import Applied, Batch, Hit, Record, Waiting
from reposyncd.store.chroma.inspection import survey
from reposyncd.store.chroma.salvage import Salvage
from reposyncd.store.locks import DATABASE, NO_LOCK, chroma_lock, wait_for_database

if TYPE_CHECKING:
    import numpy as np

    from reposyncd.store.chroma.collections import ChromaStore

    Vectors = np.ndarray[Any, np.dtype[np.float32]]

Embed = Callable[[list[str]], "Vectors"]

_PREPARED_AHEAD = 2
"""Embedded batches that may wait for the store: one being stored, one ready, so that neither side idles."""


class Index:
    """The operations of `ports.VectorIndex` on one Chroma directory, each split into its two steps.

    `tell` sends news, from the thread that performs. `salvage` is where vectors of an earlier store may be.
    """

    def __init__(
        self,
        chroma_dir: str,
        embed: Embed,
        lock_timeout_s: float,
        tell: Callable[[str, Any], None] = lambda *_: None,
        *,
        salvage: str = "",
    ) -> None:
        self._dir = chroma_dir
        self._embed = embed
        self._lock_timeout_s = lock_timeout_s
        self._tell = tell
        self._salvage = Salvage(salvage)
        self._store: ChromaStore | None = None
        self._database: BinaryIO | None = None

    @property
    def store(self) -> ChromaStore:
        """The open store; opened at first use, under the lock."""
        if self._store is None:
            from reposyncd.store.chroma.collections import ChromaStore

            if not os.path.isdir(self._dir):  # not made: the one that serves is another by now
                raise TransientStoreError(f"{self._dir} is gone")
            with self.locked():
                self._store = ChromaStore(self._dir)  # which writes a row that says so
        return self._store

    @contextmanager
    def locked(self) -> Iterator[None]:
        """The lock around every write, shared with other ChromaDB programs; and none of them has a transaction."""
        if self._lock_timeout_s == NO_LOCK:
            yield
            return
        deadline = time.monotonic() + self._lock_timeout_s
        with chroma_lock(self._dir, self._lock_timeout_s, self._on_wait):
            if self._database is None:
                with suppress(FileNotFoundError):  # Chroma makes it
                    self._database = open(os.path.join(self._dir, DATABASE), "rb")  # noqa: SIM115 - never closed
            if self._database is not None:
                left_s = max(0.0, deadline - time.monotonic())
                wait_for_database(self._database.fileno(), self._dir, left_s, self._on_wait)
            yield

    def _on_wait(self, reason: str) -> None:
        self._tell("waiting", Waiting(reason, time.time_ns()))

    def prepare(self, operation: str, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """The first step: the texts are embedded."""
        if operation == "apply":
            collection, batch = arguments
            texts = list({chunk.text: None for chunk in batch.added if chunk.source is None})
            return collection, batch, *self._vectors_of(texts)
        if operation == "query":
            collection, wanted, limit = arguments
            return collection, self._embed([wanted])[0] if isinstance(wanted, str) else wanted, limit
        if operation == "embed":
            [texts] = arguments
            return ([tuple(map(float, vector)) for vector in self._embed(texts)] if texts else [],)
        return arguments

    def _vectors_of(self, texts: list[str]) -> tuple[dict[str, Any], Applied]:
        """By text; and what had to be embedded."""
        known, sampled = self._salvage.vectors(texts, self._embed)
        unknown = [text for text in texts if text not in known]
        if unknown:
            known |= dict(zip(unknown, self._embed(unknown), strict=True))
        return known, Applied(len(sampled) + len(unknown), sum(map(len, sampled)) + sum(map(len, unknown)))

    def perform(self, operation: str, arguments: tuple[Any, ...]) -> Any:
        """The second step: the store is read or written."""
        return getattr(self, operation)(*arguments)

    def open(self, collection: str, metadata: dict[str, str]) -> int:
        store = self.store
        with self.locked():
            return store.open(collection, metadata)

    def apply(self, collection: str, batch: Batch, by_text: dict[str, Any], applied: Applied) -> Applied:
        import numpy as np

        copied = self.store.vectors(collection, sorted({c.source for c in batch.added if c.source is not None}))
        by_text |= {c.text: copied[c.source] for c in batch.added if c.source in copied}
        # A source may have been deleted since it was looked up, and its text is embedded after all.
        missing = list({c.text: None for c in batch.added if c.text not in by_text})
        embedded, took = self._vectors_of(missing)
        by_text |= embedded
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
        return Applied(applied.embedded + took.embedded, applied.characters + took.characters)

    def delete(self, collection: str, ids: list[str]) -> None:
        store = self.store  # opened before the lock is taken, which opening takes itself
        with self.locked():
            store.delete(collection, ids)

    def drop(self, collection: str) -> None:
        store = self.store
        with self.locked():
            store.drop(collection)

    def collections(self) -> dict[str, dict[str, str]]:
        return self.store.collections()

    def probe(self, collection: str) -> None:
        self.store.probe(collection)

    def count(self, collection: str) -> int:
        return self.store.count(collection)

    def ids(self, collection: str) -> set[str]:
        return self.store.ids(collection)

    def labels(self, collection: str) -> dict[str, int]:
        return self.store.labels(collection)

    def records(self, collection: str, ids: list[str] | None) -> list[Record]:
        return self.store.records(collection, ids)

    def embed(self, vectors: list[tuple[float, ...]]) -> list[tuple[float, ...]]:
        return vectors

    def query(self, collection: str, vector: Vectors | tuple[float, ...], limit: int) -> list[Hit]:
        import numpy as np

        return self.store.query(collection, np.asarray(vector, dtype=np.float32), limit)

    def survey(self) -> None:
        with self.locked():
            survey(self._dir)

    def read(self, collection: str, ids: list[str]) -> None:
        self.store.read(collection, ids)

    def persist(self, compact: list[str]) -> None:
        self.store.persist(compact)


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
            _log(error)
            reply = (number, False, portable(operation, error))
        connection.send(reply)
        if isinstance(reply[2], TransientStoreError) and not isinstance(reply[2], CONCERN_ONE_OPERATION):
            # After a full disk or the like Chroma's client fails, or hangs, for good; a new process does not.
            os._exit(1)


def portable(operation: str, error: BaseException) -> ReposyncError:
    """The error as one of ours, which survives pickling, and tells nothing of what a file holds."""
    if isinstance(error, ReposyncError):
        return type(error)(*error.args)
    kind = StoreError if isinstance(error, Exception) else CorruptStoreError
    if isinstance(error, OSError | MemoryError | ImportError):  # a library, too, is read from a disk that may fail
        kind = TransientStoreError
    return kind(f"{operation} failed in the index process, whose log says more: {safe_message(error)}")


def _log(error: BaseException) -> None:
    """Writes the whole error to this process's log, which its user alone can read, if `portable` does not tell it."""
    if not isinstance(error, ReposyncError) or error.__cause__ is not None:
        traceback.print_exception(error)
