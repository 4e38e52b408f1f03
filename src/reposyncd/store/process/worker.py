"""The index process: has a store and an embedder, and carries out the operations that are requested over a socket.

`supervisor.IndexProcess` starts it, through `reposyncd.app.child`, as a fresh interpreter and never as a fork: a forked
Chroma client hangs. Requests are (number, operation, arguments), and replies are (number, succeeded, value or error).
Both are pickled by `multiprocessing.connection`, over a socket that only the parent has. A reply without a number is a
notification: (None, "waiting", Waiting). The process ends when that socket is closed.

Requests pass through two threads in order: one prepares them (has the texts embedded, in another process), one stores.
"""

from __future__ import annotations

import os
import queue
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, Protocol

from reposyncd.errors import (
    CONCERN_ONE_OPERATION,
    CorruptStoreError,
    ReposyncError,
    StoreError,
    TransientStoreError,
    safe_message,
)
from reposyncd.model import Applied, Batch, Hit, Record, Waiting
from reposyncd.ports import Collections

if TYPE_CHECKING:
    from reposyncd.ports import Vectors

Embed = Callable[[list[str]], "Vectors"]
"""Turns n texts into n vectors."""

_PREPARED_AHEAD = 2
"""How many embedded batches may wait for the store: one is being stored, one is ready, so that neither side is idle."""


class Backend(Protocol):
    """A store, as its adapter provides it to the index process. For the storing thread, except for `close`."""

    @property
    def collections(self) -> Collections:
        """The open store. The first use opens it, outside of `writing`. Raises StoreError."""
        ...

    def writing(self) -> AbstractContextManager[None]:
        """Entered around every write. Holds the locks that the store needs. Raises StoreBusyError."""
        ...

    def known_vectors(self, texts: Sequence[str], embed: Embed) -> tuple[dict[str, Any], Sequence[str]]:
        """Vectors of these texts that are known without embedding them, by text; and the texts that were embedded to
        check them. Thread-safe."""
        ...

    @property
    def maintenance(self) -> Mapping[str, Callable[..., Any]]:
        """Operations that only this kind of store has, by name. Its own adapter calls them from the parent."""
        ...

    def close(self) -> None:
        """Closes the store."""
        ...


class IndexWorker:
    """The operations of `ports.VectorIndex` on a store, each in two steps: `prepare` embeds, `perform` stores.

    The two steps may be done by different threads.
    """

    def __init__(self, backend: Backend, embed: Embed) -> None:
        self._backend = backend
        self._embed = embed

    def prepare(self, operation: str, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """The first step: embeds the texts. Returns the arguments for the second step."""
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
        """The vectors by text, and how much had to be embedded."""
        if not texts:
            return {}, Applied()
        began = time.perf_counter()
        known, sampled = self._backend.known_vectors(texts, self._embed)
        unknown = [text for text in texts if text not in known]
        if unknown:
            known |= dict(zip(unknown, self._embed(unknown), strict=True))
        embedded = [*sampled, *unknown]
        return known, Applied(len(embedded), sum(map(len, embedded)), time.perf_counter() - began)

    def perform(self, operation: str, arguments: tuple[Any, ...]) -> Any:
        """The second step: reads or writes the store."""
        own = self._backend.maintenance.get(operation)
        return own(*arguments) if own else getattr(self, operation)(*arguments)

    def close(self) -> None:
        """Closes the store."""
        self._backend.close()

    @property
    def _store(self) -> Collections:
        return self._backend.collections

    def open(self, collection: str, metadata: dict[str, str]) -> int:
        store = self._store  # opening takes the lock itself
        with self._backend.writing():
            return store.open(collection, metadata)

    def apply(self, collection: str, batch: Batch, by_text: dict[str, Any], applied: Applied) -> Applied:
        import numpy as np

        store = self._store
        began = time.perf_counter()
        copied = store.vectors(collection, sorted({c.source for c in batch.added if c.source is not None}))
        by_text |= {c.text: copied[c.source] for c in batch.added if c.source in copied}
        store_s = time.perf_counter() - began
        # A source may have been deleted since it was looked up. Then its text has to be embedded after all.
        missing = list({c.text: None for c in batch.added if c.text not in by_text})
        embedded, took = self._vectors_of(missing)
        by_text |= embedded
        with self._backend.writing():
            began = time.perf_counter()
            if batch.added:
                store.upsert(
                    collection,
                    [chunk.row.id for chunk in batch.added],
                    [chunk.text for chunk in batch.added],
                    np.stack([by_text[chunk.text] for chunk in batch.added]).astype(np.float32, copy=False),
                    [chunk.row.metadata(batch.repo) for chunk in batch.added],
                )
            store.update(
                collection,
                [row.id for row in batch.relabelled],
                [row.metadata(batch.repo) for row in batch.relabelled],
            )
            store_s += time.perf_counter() - began
        return Applied(
            embedded=applied.embedded + took.embedded,
            characters=applied.characters + took.characters,
            embed_s=applied.embed_s + took.embed_s,
            store_s=store_s,
        )

    def delete(self, collection: str, ids: list[str]) -> None:
        store = self._store
        with self._backend.writing():
            store.delete(collection, ids)

    def drop(self, collection: str) -> None:
        store = self._store
        with self._backend.writing():
            store.drop(collection)

    def collections(self) -> dict[str, dict[str, str]]:
        return self._store.collections()

    def probe(self, collection: str) -> None:
        self._store.probe(collection)

    def count(self, collection: str) -> int:
        return self._store.count(collection)

    def ids(self, collection: str) -> set[str]:
        return self._store.ids(collection)

    def labels(self, collection: str) -> dict[str, int]:
        return self._store.labels(collection)

    def records(self, collection: str, ids: list[str] | None) -> list[Record]:
        return self._store.records(collection, ids)

    def embed(self, vectors: list[tuple[float, ...]]) -> list[tuple[float, ...]]:
        return vectors

    def query(self, collection: str, vector: Vectors | tuple[float, ...], limit: int) -> list[Hit]:
        import numpy as np

        return self._store.query(collection, np.asarray(vector, dtype=np.float32), limit)


def wait_notifier(connection: Connection) -> Callable[[str], None]:
    """A function that notifies the parent what the store is waiting for. For the storing thread."""

    def on_wait(reason: str) -> None:
        connection.send((None, "waiting", Waiting(reason, time.time_ns())))

    return on_wait


def serve(connection: Connection, index: IndexWorker) -> None:
    """Carries out requests in order, until the parent is gone. Does not return."""
    received: queue.SimpleQueue[tuple[int, str, tuple[Any, ...]]] = queue.SimpleQueue()
    prepared: queue.Queue[tuple[int, str, tuple[Any, ...] | BaseException]] = queue.Queue(_PREPARED_AHEAD)

    def receive() -> None:
        try:
            while True:
                received.put(connection.recv())
        finally:  # EOF, or a request that cannot be read
            # The parent is gone and nobody waits. The intents tell the next run what was interrupted.
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
            # BaseException: a panic in Chroma's Rust code is raised as one.
            _log(error)
            reply = (number, False, portable(operation, error))
        connection.send(reply)
        if isinstance(reply[2], TransientStoreError) and not isinstance(reply[2], CONCERN_ONE_OPERATION):
            # After an error such as a full disk, Chroma's client fails or hangs for good, but a new process works.
            os._exit(1)


def portable(operation: str, error: BaseException) -> ReposyncError:
    """The error as one of ours, which can be pickled and contains no file content."""
    if isinstance(error, ReposyncError):
        return type(error)(*error.args)
    kind = StoreError if isinstance(error, Exception) else CorruptStoreError
    if isinstance(error, OSError | MemoryError | ImportError):  # libraries are also read from a disk, which may fail
        kind = TransientStoreError
    return kind(f"{operation} failed in the index process; see its log: {safe_message(error)}")


def _log(error: BaseException) -> None:
    """Writes the whole error to the log of this process, which only its user can read, if `portable` omits a part of
    it."""
    if not isinstance(error, ReposyncError) or error.__cause__ is not None:
        traceback.print_exception(error)
