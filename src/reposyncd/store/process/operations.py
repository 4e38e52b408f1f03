"""The operations of `ports.VectorIndex`, as requests to whatever carries them out: a child process, or this one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from reposyncd.model import Applied, Batch, Hit, Record
from reposyncd.ports import Deferred, OnWait

T = TypeVar("T")


class Operations(ABC):
    """A `ports.VectorIndex` that turns each operation into a request. Thread-safe."""

    @abstractmethod
    def submit(self, operation: str, *arguments: Any) -> Future[Any]:
        """Has the operation carried out, after all that were submitted before."""

    @abstractmethod
    def wait_for(self, future: Future[T]) -> T:
        """The result of an operation, or its error."""

    @abstractmethod
    def observed(self, on_wait: OnWait) -> Operations:
        """See `ports.VectorIndex`."""

    def call(self, operation: str, *arguments: Any) -> Any:
        """Submits an operation and waits for its result."""
        return self.wait_for(self.submit(operation, *arguments))

    def open(self, collection: str, metadata: Mapping[str, str]) -> int:
        return int(self.call("open", collection, dict(metadata)))

    def apply(self, collection: str, batch: Batch) -> Deferred[Applied]:
        return _Submitted(self, self.submit("apply", collection, batch))

    def delete(self, collection: str, ids: Sequence[str]) -> Deferred[None]:
        return _Submitted(self, self.submit("delete", collection, list(ids)))

    def drop(self, collection: str) -> None:
        self.call("drop", collection)

    def collections(self) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = self.call("collections")
        return found

    def probe(self, collection: str) -> None:
        self.call("probe", collection)

    def ids(self, collection: str) -> set[str]:
        found: set[str] = self.call("ids", collection)
        return found

    def labels(self, collection: str) -> dict[str, int]:
        found: dict[str, int] = self.call("labels", collection)
        return found

    def records(self, collection: str, ids: Sequence[str] | None = None) -> list[Record]:
        found: list[Record] = self.call("records", collection, None if ids is None else list(ids))
        return found

    def embed(self, texts: Sequence[str]) -> list[tuple[float, ...]]:
        found: list[tuple[float, ...]] = self.call("embed", list(texts))
        return found

    def query(self, collection: str, wanted: str | Sequence[float], limit: int) -> list[Hit]:
        asked = wanted if isinstance(wanted, str) else tuple(wanted)
        found: list[Hit] = self.submit("query", collection, asked, limit).result()  # from any thread, so without a hook
        return found


@dataclass(frozen=True, slots=True)
class _Submitted(Generic[T]):
    """A `ports.Deferred` that waits like the operations it came from."""

    operations: Operations
    future: Future[T]

    def result(self) -> T:
        return self.operations.wait_for(self.future)
