"""What syncs and searches need of the world, as Protocols. `app/workspace.py` and `app/stores.py` join them with their
implementations.

The module is long because it has contracts and hardly any code: it is what to read before writing an adapter.
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
"""Called now and then by the thread that waits, with what keeps the store from going on; None: it is only busy. What
it raises, the wait raises."""


class Deferred(Protocol[T_co]):
    """The result of an operation that may still be running; a `concurrent.futures.Future` is one."""

    def result(self) -> T_co:
        """Waits for the operation. Raises what the operation raised."""
        ...


# Records ------------------------------------------------------------------------------------------------


class Collections(Protocol):
    """A vector store: named collections of records, each with an id, a text, metadata and a vector.

    It stores vectors and does not make them. For one thread. Every method returns when the operation is durable, and
    is idempotent; one that raised may have taken effect in part. A call for no records does nothing. Raises StoreError:
    TransientStoreError if the same call may succeed later, PermanentStoreError if it will not, CorruptStoreError if the
    store contradicts itself. Of a collection that does not exist, `open` and `drop` take no notice; every other method
    raises CorruptStoreError.
    """

    def open(self, name: str, metadata: Mapping[str, str]) -> int:
        """Creates the collection if it is absent, replaces its metadata, and returns the number of its records."""
        ...

    def drop(self, name: str) -> None:
        """Deletes the collection, if there is one."""
        ...

    def collections(self) -> dict[str, dict[str, str]]:
        """The metadata of every collection, by name."""
        ...

    def upsert(
        self, name: str, ids: Sequence[str], texts: Sequence[str], vectors: Vectors, metadatas: Sequence[Metadata]
    ) -> None:
        """Stores whole records; those that exist are replaced."""
        ...

    def update(self, name: str, ids: Sequence[str], metadatas: Sequence[Metadata]) -> None:
        """Replaces the metadata of records. Ids that are absent are ignored."""
        ...

    def delete(self, name: str, ids: Sequence[str]) -> None:
        """Deletes records. Ids that are absent are ignored."""
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
        """The vectors (float32, (dimension,)) of those records that exist, by id."""
        ...

    def records(self, name: str, ids: Sequence[str] | None = None) -> list[Record]:
        """Those records that exist, or all of them; with their vectors, in no order."""
        ...

    def query(self, name: str, vector: Any, limit: int) -> list[Hit]:
        """The `limit` records nearest to the vector (float32, (dimension,)) by cosine, nearest first. Records that
        reposyncd has not written are left out."""
        ...

    def probe(self, name: str) -> None:
        """Reads a record and finds it by its vector. Raises CorruptStoreError if that fails."""
        ...


class VectorIndex(Protocol):
    """Collections together with the embedder: what syncs and searches use.

    Every operation is idempotent, and durable when its result is there. Operations take effect in the order in which
    they were called, from whatever thread. Errors are those of `Collections`.
    """

    def observed(self, on_wait: OnWait) -> VectorIndex:
        """The same index, whose operations (queries excepted) call `on_wait` while the caller waits for them."""
        ...

    def open(self, collection: str, metadata: Mapping[str, str]) -> int:
        """See `Collections.open`."""
        ...

    def apply(self, collection: str, batch: Batch) -> Deferred[Applied]:
        """Stores the added chunks with their vectors, and replaces the metadata of the relabelled ones.

        A text is embedded once for all chunks of the batch that have it, and not at all for a chunk with a `source`:
        that one gets the source's vector. A relabelled id that is absent is ignored.
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
        """The vectors that records of these texts get."""
        ...

    def query(self, collection: str, wanted: str | Sequence[float], limit: int) -> list[Hit]:
        """The `limit` records nearest to a text, or to a vector, nearest first."""
        ...


class IndexLifetime(Protocol):
    """The lifetime of whatever does the operations of an index: usually a child process. For any thread."""

    @property
    def session(self) -> int:
        """Which opening of the store this is: another number each time it is opened; 0 while it is closed."""
        ...

    def start(self) -> None:
        """Opens the store in the background. Never needed: the first operation does it too, only later."""
        ...

    def release(self) -> None:
        """Closes the store. Operations that are not finished fail; the next one opens the store again, wherever it is
        by then."""
        ...

    def close(self) -> None:
        """Closes the store for good. Operations that are not finished fail, and so do later ones."""
        ...

    def abandon(self) -> None:
        """As `close`, without waiting for anything."""
        ...

    @property
    def stalled_s(self) -> float:
        """How long the thread that enforces the deadlines has made no progress, in seconds; 0 if there is nothing to
        do."""
        ...


class RunningIndex(VectorIndex, IndexLifetime, Protocol):
    """An index with its lifetime: what owns an index holds."""


def label(metadata: Metadata) -> int:
    """64 bits of a digest of a record's metadata: to compare many records without holding them."""
    return xxhash.xxh3_64_intdigest(repr(sorted(metadata.items())).encode(errors="surrogateescape"))


_HIT_METADATA = frozenset(each.name for each in fields(Hit)) - {"text", "score"}
"""The metadata that every record of ours has."""


def hit_of(text: str | None, metadata: Mapping[str, Any] | None, score: float) -> Hit | None:
    """A record as a hit; None if another program has stored it. `score` may exceed 1.0 by a rounding error."""
    if text is None or metadata is None or not metadata.keys() >= _HIT_METADATA:
        return None
    return Hit(text=text, score=min(1.0, score), **{name: metadata[name] for name in _HIT_METADATA})


# The store as a whole -----------------------------------------------------------------------------------


class StoreAddress(Protocol):
    """Where a store is, in the form in which a child process gets it. `app/stores.py` lists the kinds of store."""

    @property
    def kind(self) -> str:
        """The name of the kind of store."""
        ...

    def arguments(self) -> Sequence[str]:
        """What the child needs to know to open the store. Asked anew for each child. Raises TransientStoreError."""
        ...

    def slack_s(self) -> float:
        """How much longer than its deadline the first operation may take at present, in seconds."""
        ...


class StoreStatus(Protocol):
    """What `status` says of a store. For any thread; quick, takes no lock, writes nothing, raises nothing."""

    @property
    def kind(self) -> str:
        """The name of this kind of store: "embedded", for example."""
        ...

    @property
    def location(self) -> str:
        """Where the store is: a directory or a URL. It need not exist."""
        ...

    def lock_holder(self) -> int | None:
        """The process that holds the store's lock; 0 if it is unknown which, None if nobody does."""
        ...

    def trouble(self) -> str:
        """Why nothing can be stored at present; "" if nothing is known to prevent it."""
        ...


class StoreAdmin(StoreStatus, Protocol):
    """Care for the store as a whole: recognising it, checking it, checkpoints, and a new one in place of a damaged one.

    The caller holds the state lock. Raises StoreError, translated as for `Collections`. `on_wait` is called now and
    then during a long operation; what it raises ends the operation.
    """

    def ensure(self) -> None:
        """Creates an empty store if there is none, and removes what a crash left half done."""
        ...

    def is_empty(self) -> bool:
        """Whether nothing was ever stored, or nothing is left."""
        ...

    def stamp(self) -> str:
        """The store stamp: a text that is another one after any write; "" if there is no store."""
        ...

    def recognise(self, recorded: str) -> str | None:
        """The store stamp as it is now, if nobody has written to the store since the recorded one was taken; else
        None. It may differ from the recorded one, which is then to be replaced."""
        ...

    def check(self) -> None:
        """Compares the store's files with their checksums, where it has such. Raises CorruptStoreError."""
        ...

    def require_space(self, chunks: int) -> None:
        """Raises NoSpaceError unless there is room for that many more chunks. A damaged store that is kept in
        quarantine is deleted first, if that makes the room."""
        ...

    def inspect(self, collections: Sequence[str], on_wait: Callable[[], None]) -> None:
        """Reads the whole store, and returns if it is sound as far as these collections go (absent ones are ignored).

        Raises CorruptStoreError or LethalOperationError if it is damaged, UnreadableStoreError if its disk cannot read
        a file, and another TransientStoreError if it could not be inspected. The index must be released.
        """
        ...

    def is_checkpoint_due(self, live: Mapping[str, int]) -> bool:
        """Whether a checkpoint is worth its cost. `live` has the number of live records of each collection."""
        ...

    def checkpoint(self, live: Mapping[str, int], *, release: Callable[[], None], on_wait: Callable[[], None]) -> None:
        """Makes opening the store fast again, and frees the space of deleted records. Safe against a crash: until
        it returns, nothing has changed. `release` closes the index; it may be called more than once."""
        ...

    def quarantine(self) -> str:
        """Moves the damaged store aside, and returns where it is now. What was kept there before is deleted. The index
        must be released."""
        ...

    def salvage(self, place: str, manifest: str, fingerprint: str, on_wait: Callable[[], None]) -> str:
        """Saves the vectors that are still sound in the store that `quarantine` has moved to `place`, so that their
        texts need not be embedded again. `manifest` is the path of the manifest; only generations with this
        fingerprint count. Returns a sentence on how much was saved, "" if there was nothing to do."""
        ...

    def discard_salvage(self) -> None:
        """Deletes what `salvage` has saved."""
        ...


class Chunker(Protocol):
    """Cuts files: from bytes to chunks that concatenate to the file's text, or to the reason why there are none.

    Whatever a file contains, it is cut within a bounded time and raises nothing: the Cut says what went wrong.
    """

    def start(self) -> None:
        """Gets ready in the background. Never needed: the first file does it too, only later."""
        ...

    def begin(self, path: str, data: bytes, digest: str, *, allow_secrets: bool = False) -> Future[Cut]:
        """Starts to cut a file; `digest` is that of its bytes. A file that is already being cut is not started again.
        A file that holds secrets is skipped, unless `allow_secrets`.

        The call and its result raise UncutError if this file cannot be cut at present, for a reason that is not in
        the file, and TransientStoreError if no file can.
        """
        ...

    def release(self) -> None:
        """Tells that nobody waits for the files that were started. They are finished nevertheless, and their results
        are kept, while there is room, for the next `begin` of the same file."""
        ...

    @property
    def stalled_s(self) -> float:
        """How long the supervising thread has made no progress, in seconds; 0 if nothing is being cut. For any
        thread."""
        ...

    def close(self) -> None:
        """Ends at once; files that are not finished fail. For any thread."""
        ...


class Stage(StrEnum):
    """A stage of a sync, in the order in which a file passes them."""

    SCAN = "scan"
    READ = "read"
    CHUNK = "chunk"
    EMBED = "embed"
    STORE = "store"
    COMMIT = "commit"


class Observer(Protocol):
    """Is told what happens, and decides nothing. Called outside every lock, from any thread; returns at once and raises
    nothing. It outlives the engine and the workspace that report to it."""

    def stage(self, repo: str, stage: Stage, duration_s: float, count: int) -> None:
        """A stage took so long for this many items: directories (scan), files (read), chunks (all others). Called once
        for each batch of a sync, and not for each item. Stages overlap, so their durations may add up to more than the
        duration of the sync."""
        ...

    def transition(self, transition: Transition) -> None:
        """A repository has another state, or another reason for it."""
        ...


class Unobserved:
    """An `Observer` that ignores everything."""

    def stage(self, repo: str, stage: Stage, duration_s: float, count: int) -> None:
        """See `Observer`."""

    def transition(self, transition: Transition) -> None:
        """See `Observer`."""
