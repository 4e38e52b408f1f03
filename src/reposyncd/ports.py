"""What syncs and searches need from other parts, as Protocols. `app/workspace.py` and `app/stores.py` connect them with
their implementations.

The module is long because it has contracts and hardly any code. Read it before you write an adapter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import fields
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import xxhash

from reposyncd.model import Applied, Batch, Cut, Hit, Record, Transition, Waiting

if TYPE_CHECKING:
    import numpy as np

    Vectors = np.ndarray[Any, np.dtype[np.float32]]
    """float32, (n, dimension), rows of unit length"""

T_co = TypeVar("T_co", covariant=True)

Metadata = Mapping[str, str | int]

OnWait = Callable[[Waiting | None], None]
"""Called now and then by the waiting thread, with what keeps the store from continuing; None: the store is only busy.
An exception that it raises ends the wait, and is raised there."""


class Deferred(Protocol[T_co]):
    """The result of an operation that may still be running; a `concurrent.futures.Future` is one."""

    def result(self) -> T_co:
        """Waits for the operation. Raises what the operation raised."""
        ...


# Records ------------------------------------------------------------------------------------------------


class Collections(Protocol):
    """A vector store: named collections of records, each with an id, a text, metadata and a vector.

    It stores vectors and does not compute them. Use it from one thread. Every method returns when the operation is
    durable, and is idempotent. A method that raised may have taken effect in part. A call without records does nothing.
    Raises StoreError: TransientStoreError if the same call may succeed later, PermanentStoreError if it will not,
    CorruptStoreError if the store contradicts itself. If a collection does not exist, `open` creates it, `drop` does
    nothing, and every other method raises CorruptStoreError.
    """

    def open(self, name: str, metadata: Mapping[str, str]) -> int:
        """Creates the collection if it is absent, replaces its metadata, and returns the number of its records."""
        ...

    def drop(self, name: str) -> None:
        """Deletes the collection if it exists."""
        ...

    def collections(self) -> dict[str, dict[str, str]]:
        """The metadata of every collection, by name."""
        ...

    def upsert(
        self, name: str, ids: Sequence[str], texts: Sequence[str], vectors: Vectors, metadatas: Sequence[Metadata]
    ) -> None:
        """Stores whole records. Records with the same ids are replaced."""
        ...

    def update(self, name: str, ids: Sequence[str], metadatas: Sequence[Metadata]) -> None:
        """Replaces the metadata of records. Absent ids are ignored."""
        ...

    def delete(self, name: str, ids: Sequence[str]) -> None:
        """Deletes records. Absent ids are ignored."""
        ...

    def count(self, name: str) -> int:
        """The number of records."""
        ...

    def ids(self, name: str) -> set[str]:
        """The ids of all records."""
        ...

    def labels(self, name: str) -> dict[str, int]:
        """The `label` of every record's metadata, by id."""
        ...

    def vectors(self, name: str, ids: Sequence[str]) -> dict[str, Any]:
        """The vectors (float32, (dimension,)) of the records that exist, by id."""
        ...

    def records(self, name: str, ids: Sequence[str] | None = None) -> list[Record]:
        """The records that exist, of these ids or of all; with their vectors, in no particular order."""
        ...

    def query(self, name: str, vector: Any, limit: int) -> list[Hit]:
        """The `limit` records nearest to the vector (float32, (dimension,)) by cosine, nearest first. Records that
        reposyncd has not written are left out."""
        ...

    def probe(self, name: str) -> None:
        """Reads a record, and searches for it by its vector. Raises CorruptStoreError if that fails."""
        ...


class VectorIndex(Protocol):
    """Collections together with an embedder: what syncs and searches use.

    Every operation is idempotent, and durable once its result is there. Operations take effect in the order in which
    they were called, whatever thread called them. Errors are those of `Collections`.
    """

    def observed(self, on_wait: OnWait) -> VectorIndex:
        """The same index, but its operations (except queries) call `on_wait` while the caller waits for them."""
        ...

    def open(self, collection: str, metadata: Mapping[str, str]) -> int:
        """See `Collections.open`."""
        ...

    def apply(self, collection: str, batch: Batch) -> Deferred[Applied]:
        """Stores the added chunks with their vectors, and replaces the metadata of the relabelled ones.

        A text is embedded once for all chunks of the batch that have it. A chunk with a `source` is not embedded: it
        gets the vector of the source. Absent ids among the relabelled ones are ignored.
        """
        ...

    def delete(self, collection: str, ids: Sequence[str]) -> Deferred[None]:
        """See `Collections.delete`."""
        ...

    def drop(self, collection: str) -> None:
        """See `Collections.drop`."""
        ...

    def collections(self) -> dict[str, dict[str, str]]:
        """See `Collections.collections`."""
        ...

    def probe(self, collection: str) -> None:
        """See `Collections.probe`."""
        ...

    def ids(self, collection: str) -> set[str]:
        """See `Collections.ids`."""
        ...

    def labels(self, collection: str) -> dict[str, int]:
        """See `Collections.labels`."""
        ...

    def records(self, collection: str, ids: Sequence[str] | None = None) -> list[Record]:
        """See `Collections.records`."""
        ...

    def embed(self, texts: Sequence[str]) -> list[tuple[float, ...]]:
        """The vectors that records with these texts get."""
        ...

    def query(self, collection: str, wanted: str | Sequence[float], limit: int) -> list[Hit]:
        """The `limit` records nearest to a text or to a vector, nearest first."""
        ...


class IndexLifetime(Protocol):
    """The lifetime of whatever carries out the operations of an index: usually a child process. Thread-safe."""

    @property
    def session(self) -> int:
        """A number that is different each time the store is opened; 0 while the store is closed."""
        ...

    def start(self) -> None:
        """Opens the store in the background. Optional: the first operation opens it too, only later."""
        ...

    def release(self) -> None:
        """Closes the store. Unfinished operations fail. The next operation opens the store again, wherever it is
        then."""
        ...

    def close(self) -> None:
        """Closes the store for good. Unfinished operations fail, and so do later ones."""
        ...

    def abandon(self) -> None:
        """Like `close`, but does not wait for anything."""
        ...

    @property
    def stalled_s(self) -> float:
        """How long the thread that enforces the deadlines has made no progress, in seconds; 0 if it has nothing to
        do."""
        ...


class RunningIndex(VectorIndex, IndexLifetime, Protocol):
    """An index together with its lifetime, for the owner of the index."""


def label(metadata: Metadata) -> int:
    """64 bits of a digest of a record's metadata. They allow to compare many records without keeping them in memory."""
    return xxhash.xxh3_64_intdigest(repr(sorted(metadata.items())).encode(errors="surrogateescape"))


_HIT_METADATA = frozenset(each.name for each in fields(Hit)) - {"text", "score"}
"""The metadata that each of our records has."""


def hit_of(text: str | None, metadata: Mapping[str, Any] | None, score: float) -> Hit | None:
    """A record as a hit; None if another program has stored it. `score` may exceed 1.0 because of rounding."""
    if text is None or metadata is None or not metadata.keys() >= _HIT_METADATA:
        return None
    return Hit(text=text, score=min(1.0, score), **{name: metadata[name] for name in _HIT_METADATA})


# The store as a whole -----------------------------------------------------------------------------------


class StoreAddress(Protocol):
    """Where a store is, in the form that is passed to a child process. `app/stores.py` lists the kinds of store."""

    @property
    def kind(self) -> str:
        """The name of the kind of store."""
        ...

    def arguments(self) -> Sequence[str]:
        """What the child needs in order to open the store. Called for each new child. Raises TransientStoreError."""
        ...

    def slack_s(self) -> float:
        """How much longer than its deadline the first operation may take at present, in seconds."""
        ...


class StoreStatus(Protocol):
    """What `status` shows of a store. Thread-safe. Quick; takes no lock, writes nothing and raises nothing."""

    @property
    def kind(self) -> str:
        """The name of this kind of store, for example "embedded"."""
        ...

    @property
    def location(self) -> str:
        """Where the store is: a directory or a URL. It need not exist."""
        ...

    def lock_holder(self) -> int | None:
        """The id of the process that holds the store's lock; 0 if it is unknown, None if nobody holds the lock."""
        ...

    def trouble(self) -> str:
        """Why nothing can be stored at present; "" if no reason is known."""
        ...


class StoreAdmin(StoreStatus, Protocol):
    """Maintenance of the store as a whole: recognising it, checking it, checkpoints, and replacing a damaged store.

    The caller holds the state lock. Raises StoreError, translated as for `Collections`. `on_wait` is called now and
    then during a long operation; an exception that it raises ends the operation.
    """

    def ensure(self) -> None:
        """Creates an empty store if there is none, and removes the leftovers of a crash."""
        ...

    def is_empty(self) -> bool:
        """Whether the store contains nothing."""
        ...

    def stamp(self) -> str:
        """The store stamp: a text that changes with every write; "" if there is no store."""
        ...

    def recognise(self, recorded: str) -> str | None:
        """The present store stamp, if nobody has written to the store since the recorded stamp was taken; else None.
        The present stamp may differ from the recorded one, and then has to replace it."""
        ...

    def check(self) -> None:
        """Compares the store's files with their checksums, if there are any. Raises CorruptStoreError."""
        ...

    def require_space(self, chunks: int) -> None:
        """Raises NoSpaceError unless there is space for this many more chunks. A damaged store in quarantine is deleted
        first, if that frees enough space."""
        ...

    def inspect(self, collections: Sequence[str], on_wait: Callable[[], None]) -> None:
        """Reads the whole store. Returns if it is sound as far as these collections go (absent ones are ignored).

        Raises CorruptStoreError or LethalOperationError if the store is damaged, UnreadableStoreError if the disk
        cannot read one of its files, and another TransientStoreError if it could not be inspected. The index must have
        been released.
        """
        ...

    def is_checkpoint_due(self, live: Mapping[str, int]) -> bool:
        """Whether a checkpoint is worth its cost. `live` is the number of live records of each collection."""
        ...

    def checkpoint(self, live: Mapping[str, int], *, release: Callable[[], None], on_wait: Callable[[], None]) -> None:
        """Makes opening the store fast again, and frees the space of deleted records. Safe against a crash: nothing
        changes until it returns. `release` closes the index, and may be called more than once."""
        ...

    def quarantine(self) -> str:
        """Moves the damaged store to the quarantine, and returns its new path. What the quarantine held before is
        deleted. The index must have been released."""
        ...

    def salvage(self, place: str, manifest: str, fingerprint: str, on_wait: Callable[[], None]) -> str:
        """Saves the vectors that are still sound in the store that `quarantine` has moved to `place`, so that their
        texts need not be embedded again. `manifest` is the path of the manifest. Only generations with this
        fingerprint count. Returns a sentence that says how many were saved; "" if there was nothing to do."""
        ...

    def discard_salvage(self) -> None:
        """Deletes the vectors that `salvage` has saved."""
        ...


class Chunker(Protocol):
    """Cuts files: turns bytes into chunks that, joined, are the file's text, or into the reason why there are none.

    Whatever a file contains, cutting it takes a bounded time and raises nothing: the Cut says what went wrong.
    """

    def start(self) -> None:
        """Gets ready in the background. Optional: the first file causes it too, only later."""
        ...

    def begin(self, path: str, data: bytes, digest: str, *, allow_secrets: bool = False) -> Future[Cut]:
        """Starts to cut a file; `digest` is that of its bytes. A file that is already being cut is not started again.
        A file that contains secrets is skipped, unless `allow_secrets` is true.

        The call and its result raise UncutError if this file cannot be cut at present, for a reason that is not in
        the file, and TransientStoreError if no file can be cut.
        """
        ...

    def release(self) -> None:
        """Says that nobody waits for the started files. They are finished nevertheless. As long as there is room, their
        results are kept for the next `begin` of the same file."""
        ...

    @property
    def stalled_s(self) -> float:
        """How long the supervising thread has made no progress, in seconds; 0 if nothing is being cut. Thread-safe."""
        ...

    def close(self) -> None:
        """Ends at once; unfinished files fail. Thread-safe."""
        ...


class Stage(StrEnum):
    """A stage of a sync, in the order in which a file passes through them."""

    SCAN = "scan"
    READ = "read"
    CHUNK = "chunk"
    EMBED = "embed"
    STORE = "store"
    COMMIT = "commit"


class Observer(Protocol):
    """Receives what happens, and decides nothing. Called outside every lock, from any thread. Its methods return at
    once and raise nothing. It outlives the engine and the workspace that report to it."""

    def stage(self, repo: str, stage: Stage, duration_s: float, count: int) -> None:
        """A stage took this long for this many items: directories (scan), files (read) or chunks (all others). Called
        once for each batch of a sync, and not for each item. Stages overlap, so their durations may add up to more than
        the duration of the sync."""
        ...

    def transition(self, transition: Transition) -> None:
        """A repository has a new state, or a new reason for its state."""
        ...


class Unobserved:
    """An `Observer` that ignores everything."""

    def stage(self, repo: str, stage: Stage, duration_s: float, count: int) -> None:
        """See `Observer`."""

    def transition(self, transition: Transition) -> None:
        """See `Observer`."""
