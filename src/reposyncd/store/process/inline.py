"""An index that works in the thread of the caller: for stores in memory, and for tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from reposyncd.model import Applied, Batch
from reposyncd.ports import OnWait
from reposyncd.store.process.operations import Operations
from reposyncd.store.process.worker import IndexWorker

T = TypeVar("T")


class InlineIndex(Operations):
    """A `ports.RunningIndex` without a process: an operation is done when it is called.

    `make` opens the store. It is called for the first operation, and for the first one after `release` or `close`.
    """

    def __init__(self, make: Callable[[], IndexWorker]) -> None:
        self._make = make
        self._worker: IndexWorker | None = None
        self._sessions = 0

    def submit(self, operation: str, *arguments: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            if self._worker is None:
                self._worker = self._make()
                self._sessions += 1
            worker = self._worker
            future.set_result(worker.perform(operation, worker.prepare(operation, arguments)))
        except Exception as error:
            future.set_exception(error)
        return future

    def apply(self, collection: str, batch: Batch) -> Future[Applied]:
        return self.submit("apply", collection, batch)

    def delete(self, collection: str, ids: Sequence[str]) -> Future[None]:
        return self.submit("delete", collection, list(ids))

    def wait_for(self, future: Future[T]) -> T:
        return future.result()

    def observed(self, on_wait: OnWait) -> InlineIndex:
        """Returns the same index, since nobody ever waits."""
        return self

    @property
    def session(self) -> int:
        return self._sessions if self._worker else 0

    @property
    def stalled_s(self) -> float:
        return 0.0

    def start(self) -> None:
        """Does nothing: the first operation opens the store."""

    def release(self) -> None:
        worker, self._worker = self._worker, None
        if worker:
            worker.close()

    def close(self) -> None:
        self.release()

    def abandon(self) -> None:
        self.release()
