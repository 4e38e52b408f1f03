"""What the engine needs of the world, as Protocols. `assemble` joins them with their implementations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from enum import StrEnum
from typing import Protocol, TypeVar

import xxhash

from reposyncd.model import Applied, Batch, Cut, Hit, Record, Transition, Waiting

T_co = TypeVar("T_co", covariant=True)


class Outcome(Protocol[T_co]):
    """A result that is under way; a `concurrent.futures.Future` is one."""

    def result(self) -> T_co:
        """Waits for it, and raises what the operation raised."""
        ...


class VectorIndex(Protocol):
    """Collections of records: id, text, vector, metadata. The embedder is part of it.

    Every operation is idempotent, and durable when its outcome is there; the operations take effect in the
    order of their calls. An operation that raised may have been done in part or whole. Errors are those of
    `errors.StoreError`: transient (the same call may succeed later), permanent, corrupt.
    """

    on_wait: Callable[[Waiting | None], None]
    """Called now and then by the thread that waits for an operation other than a query, with what keeps the store
    from going on, if something does. What it raises, the wait raises."""

    @property
    def life(self) -> int:
        """Another number whenever the store has been opened anew; 0 while it is not open."""
        ...

    def start(self) -> None:
        """Gets ready, in the background, for the first operation; never needed, only sooner."""
        ...

    def close(self) -> None:
        """Lets go of everything; what is not answered by then fails."""
        ...

    def release(self) -> None:
        """Lets go of the store's files; the next operation opens them again, wherever they are by then."""
        ...

    @property
    def stalled_s(self) -> float:
        """For how long nobody has looked after what is being done, seconds; 0 if nothing is. For any thread."""
        ...

    def abandon(self) -> None:
        """As `close`, but at once: what is being done fails. For any thread."""
        ...

    def open(self, collection: str, metadata: Mapping[str, str]) -> int:
        """Makes the collection if it is absent, and returns how many records it has."""
        ...

    def apply(self, collection: str, batch: Batch) -> Outcome[Applied]:
        """Stores the added chunks, with their vectors, and replaces the metadata of the relabelled.

        A chunk of a text that another chunk (of this batch, or its `source`) has is not embedded again. A
        relabelled id that is absent is ignored.
        """
        ...

    def delete(self, collection: str, ids: Sequence[str]) -> Outcome[None]:
        """Deletes records. Ids that are absent are ignored."""
        ...

    def drop(self, collection: str) -> None:
        """Deletes a collection if it is there."""
        ...

    def collections(self) -> dict[str, dict[str, str]]:
        """The metadata of every collection, by its name."""
        ...

    def probe(self, collection: str) -> None:
        """Reads a record with its vector and looks it up by it. Raises CorruptStoreError if that fails."""
        ...

    def ids(self, collection: str) -> set[str]:
        """The ids of every record."""
        ...

    def labels(self, collection: str) -> dict[str, int]:
        """The `label` of every record's metadata, by id."""
        ...

    def records(self, collection: str, ids: Sequence[str] | None = None) -> list[Record]:
        """Those records that exist, or every one; vectors included, in no order."""
        ...

    def embed(self, texts: Sequence[str]) -> list[tuple[float, ...]]:
        """The vectors that records of these texts have."""
        ...

    def query(self, collection: str, wanted: str | Sequence[float], limit: int) -> list[Hit]:
        """The `limit` records nearest to a text, or to a vector, best first."""
        ...


def label(metadata: Mapping[str, str | int]) -> int:
    """64 bits of the digest of a record's metadata: to compare many without holding them."""
    return xxhash.xxh3_64_intdigest(repr(sorted(metadata.items())).encode(errors="surrogateescape"))


class Chunker(Protocol):
    """Cuts files: bytes to chunks that concatenate to their text, or to the reason why there are none.

    What a file's content does to it is in the Cut, and never raised; it takes a bounded time.
    """

    def start(self) -> None:
        """Gets ready, in the background, for the first file; never needed, only sooner."""
        ...

    def begin(self, path: str, data: bytes, digest: str, *, allow_secrets: bool = False) -> Future[Cut]:
        """Has a file cut; `digest` is that of its bytes. One that is being cut already is not begun again. One that
        holds secrets is skipped, unless `allow_secrets`.

        Its result raises UncutError if the file cannot be cut for now, and that is not its fault, and
        TransientStoreError if none can. So does the call.
        """
        ...

    def release(self) -> None:
        """Nobody waits any more for what was begun. What is being cut goes on, and its result is kept for when the
        same is begun again, as long as there is room for it."""
        ...

    @property
    def stalled_s(self) -> float:
        """For how long nobody has looked after what is being cut, seconds; 0 if nothing is. For any thread."""
        ...

    def close(self) -> None:
        """Lets go of everything, at once; what is not cut by then fails. For any thread."""
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
        """A stage took so long for this many items: directories (scan), files (read), chunks (all others)."""
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
