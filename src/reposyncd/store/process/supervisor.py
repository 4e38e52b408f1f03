"""The parent's side of the index process: sends it requests, kills it when it is late, and starts it again."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeVar

from reposyncd.child_process import LEAVE_S, ChildProcess
from reposyncd.errors import CONCERN_ONE_OPERATION, LethalOperationError, TransientStoreError
from reposyncd.model import Waiting
from reposyncd.ports import OnWait, StoreAddress
from reposyncd.store.process.operations import Operations

T = TypeVar("T")

NO_EMBEDDER = None
"""For a process that never embeds."""

_POLL_S = 1.0
"""Time between two checks of the deadlines, which are tens of seconds."""

_ON_WAIT_S = 0.5
"""Between two calls of `on_wait`."""

_CHILDREN_AT_MOST = 2
"""Children that one request may cost. The second one shows that the first was no accident."""

_LATE_S = 3.0
"""If a check comes this much later than planned, the whole machine was held up, and a child that has missed its
deadline may not be to blame."""

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS", "TOKIO_WORKER_THREADS")
"""The variables in which numpy, the tokenizers and Chroma look for the number of threads they may start."""


def thread_limits(threads: int) -> dict[str, str]:
    """The environment of a child that computes with no more threads than this; 0: with as many as it likes."""
    return dict.fromkeys(_THREADS, str(threads)) if threads else {}


@dataclass(slots=True)
class _Request:
    operation: str
    arguments: tuple[Any, ...]
    future: Future[Any] = field(default_factory=Future)
    ends: int = 0
    """children that ended while they did it"""
    crashes: int = 0
    """of those the ones that it may have been the cause of"""

    def may_be_done(self) -> None:
        """It was under way: chunks that it has already stored need not be embedded again."""
        if self.operation == "apply":
            collection, batch = self.arguments
            added = tuple(each if each.source else each._replace(source=each.row.id) for each in batch.added)
            self.arguments = (collection, batch._replace(added=added))


class IndexProcess(Operations):
    """A `ports.RunningIndex` whose work is done by a child process.

    The first operation (or `start`) starts the child, and it leaves after `idle_s` without one. When it dies, or an
    operation takes longer than `deadline_s` (and the address's slack), it is killed and started again, and what was
    not answered is sent again in order: operations are idempotent. An operation in which two children have crashed,
    or hung while the machine was responsive, fails with LethalOperationError. If two were killed from outside
    during it (by the kernel, because memory was short), it is not to blame: everything that waits fails with
    TransientStoreError. After an error that may pass (a full disk), Chroma's client is of no use any more: the child is
    ended, and everything that waits fails with that error. The errors in `CONCERN_ONE_OPERATION` fail one operation
    only: a lock that another program holds, and trouble of the embedder.

    `embedder` says which embedder the child is to have, if any. The child gets it over its socket, as it is.
    `environment` is what the child gets in addition to the little that it inherits. `on_death` is called, from a thread
    of its own, with the reason why a child has died or was killed without having been asked to leave. `on_wait` is the
    hook of those who have not made an `observed` index of their own.

    Operations may be called from any thread. `close` ends the child; it also ends with this process.
    """

    def __init__(
        self,
        state_dir: str,
        store: StoreAddress,
        embedder: object,
        *,
        deadline_s: float,
        idle_s: float = math.inf,
        log_name: str = "index-process.log",
        environment: Mapping[str, str] = MappingProxyType({}),
        on_death: Callable[[str], None] = lambda why: None,
        on_wait: OnWait = lambda waiting: None,
    ) -> None:
        self._environment = environment
        self._state_dir = state_dir
        self._store = store
        self._embedder = embedder
        self._deadline_s = deadline_s
        self._idle_s = idle_s
        self._log_name = log_name
        self._lock = threading.Lock()
        self._requests: deque[_Request] = deque()
        self._child: ChildProcess | None = None
        self._waiting: Waiting | None = None
        self._closed = False
        self._sessions = 0
        self._on_death = on_death
        self._on_wait = on_wait
        self._polled = 0.0
        """when the thread that receives was last at work, monotonic"""

    def observed(self, on_wait: OnWait) -> Operations:
        """See `ports.VectorIndex`."""
        return _Observed(self, on_wait)

    def submit(self, operation: str, *arguments: Any) -> Future[Any]:
        """See `Operations`. Raises TransientStoreError after `close`, or if no child can be started."""
        request = _Request(operation, arguments)
        with self._lock:
            if self._closed:
                raise TransientStoreError("the index process was closed")
            child = self._ensure_child()
            self._requests.append(request)
            child.send((id(request), operation, arguments))
        return request.future

    def wait_for(self, future: Future[T]) -> T:
        """See `Operations`."""
        return self.wait_observed(future, self._on_wait)

    def wait_observed(self, future: Future[T], on_wait: OnWait) -> T:
        """The future's result. `on_wait` is called meanwhile."""
        while True:
            try:
                return future.result(_ON_WAIT_S)
            except TimeoutError:
                if future.done():
                    raise
                on_wait(self._waiting)

    # The child's lifetime -------------------------------------------------------------------------------

    @property
    def pid(self) -> int | None:
        """The child's process id while it runs."""
        with self._lock:
            return self._child.pid if self._child else None

    @property
    def session(self) -> int:
        """Which child it is, counted from 1; 0 while there is none."""
        with self._lock:
            return self._sessions if self._child else 0

    def start(self) -> None:
        """Starts the child now, so that its imports overlap with the caller's own work."""
        with self._lock:
            self._ensure_child()

    @property
    def stalled_s(self) -> float:
        """See `ports.IndexLifetime`."""
        with self._lock:
            return time.monotonic() - self._polled if self._child and self._requests else 0.0

    def release(self, leave_s: float = LEAVE_S) -> None:
        """Ends the child. What it has not answered fails; the next operation starts another."""
        with self._lock:
            child, self._child = self._child, None
            requests, self._requests = list(self._requests), deque()
            self._waiting = None
        if child:
            child.end(leave_s)
        for request in requests:
            request.future.set_exception(TransientStoreError("the index process was closed"))

    def close(self) -> None:
        """Ends the child and waits until it is gone. What it has not answered fails, and so does every later call."""
        with self._lock:
            self._closed = True
        self.release()

    def abandon(self) -> None:
        """As `close`, but the child is killed without being asked to leave."""
        with self._lock:
            self._closed = True
        self.release(0.0)

    def _ensure_child(self) -> ChildProcess:
        if self._child is None:
            arguments = [self._store.kind, *self._store.arguments()]
            slack_s = self._store.slack_s()
            child = ChildProcess(
                "store", "the index process", self._state_dir, self._log_name, arguments, self._environment
            )
            try:
                threading.Thread(target=self._attend, args=(child, slack_s), name="index-replies", daemon=True).start()
            except RuntimeError as error:
                child.reap()
                raise TransientStoreError(f"the index process could not be started: {error}") from error
            child.send((0, "embedder", (self._embedder,)))  # which may hold a secret, and so is no argument
            self._child = child
            self._sessions += 1
            self._polled = time.monotonic()
        return self._child

    def _attend(self, child: ChildProcess, slack_s: float) -> None:
        """Runs in the thread that receives. If it fails, every operation that waits fails, too."""
        try:
            self._receive(child, slack_s)
        except BaseException as error:
            self._on_death(f"the thread that receives its answers has died: {type(error).__name__}")
            with suppress(OSError):
                child.reap()
            self._fail_all(child, TransientStoreError("the index process was lost"))

    def _receive(self, child: ChildProcess, slack_s: float) -> None:
        """Resolves futures until the child is dead; then starts the next one with what is left."""
        late = is_innocent = False
        trouble: TransientStoreError | None = None
        while True:
            try:
                busy, since, held_up = False, time.monotonic(), False
                polled = since
                while not child.poll(_POLL_S):
                    self._polled = time.monotonic()
                    held_up, polled = held_up or self._polled > polled + _POLL_S + _LATE_S, self._polled
                    with self._lock:
                        if self._child is not child:
                            raise EOFError
                        if busy != bool(self._requests):
                            busy, since = not busy, time.monotonic()
                        elapsed = time.monotonic() - since
                        if busy and elapsed > self._deadline_s + slack_s:
                            late, is_innocent = True, held_up or child.is_blocked()
                            raise EOFError
                        if not busy and elapsed > self._idle_s:
                            self._child = None
                            raise EOFError
                number, succeeded, value = child.receive()
                self._polled = time.monotonic()
            except Exception:
                break  # its end, or an answer that cannot be read: either way it is replaced, and asked again
            if number is None:
                self._waiting = value
                continue
            with self._lock:
                self._waiting = None
                if self._child is not child or not self._requests or id(self._requests[0]) != number:
                    break  # released meanwhile
                if isinstance(value, TransientStoreError) and not isinstance(value, CONCERN_ONE_OPERATION):
                    trouble = value
                    break
                request = self._requests.popleft()
            if succeeded:
                request.future.set_result(value)
            else:
                request.future.set_exception(value)
        child.reap()
        if trouble:
            self._fail_all(child, trouble)
        elif late:
            self._recover(child, "was killed: no answer within its deadline", is_evidence=not is_innocent)
        else:
            self._recover(child, child.exit_reason(), is_evidence=child.has_crashed())

    def _fail_all(self, child: ChildProcess, trouble: TransientStoreError) -> None:
        with self._lock:
            if self._child is not child:
                return
            self._child = None
            requests, self._requests = list(self._requests), deque()
        for request in requests:
            request.future.set_exception(trouble)

    def _recover(self, child: ChildProcess, cause: str, *, is_evidence: bool) -> None:
        with self._lock:
            if self._child is not child:
                return
            self._child = None
            self._waiting = None
            self._on_death(cause)
            lethal: _Request | None = None
            orphans: list[_Request] = []
            left = "could not be started again"
            if self._requests:
                # The first unanswered request is what it was doing; the others only waited behind it.
                first = self._requests[0]
                first.ends += 1
                first.crashes += is_evidence
                if first.crashes >= _CHILDREN_AT_MOST:
                    lethal = self._requests.popleft()
                elif first.ends >= _CHILDREN_AT_MOST:
                    left = f"that {_CHILDREN_AT_MOST} times in the same operation ({first.operation})"
                    orphans, self._requests = list(self._requests), deque()
            if self._requests:
                try:
                    successor = self._ensure_child()
                except Exception:  # whatever it was, no caller may wait forever
                    orphans, self._requests = list(self._requests), deque()
                else:
                    self._requests[0].may_be_done()
                    for request in self._requests:
                        successor.send((id(request), request.operation, request.arguments))
        if lethal:
            lethal.future.set_exception(
                LethalOperationError(
                    f"the index process {cause}, {_CHILDREN_AT_MOST} times in the same operation ({lethal.operation}); "
                    f"see {child.log_path}"
                )
            )
        for request in orphans:
            request.future.set_exception(TransientStoreError(f"the index process {cause}, and {left}"))


class _Observed(Operations):
    """The operations of an index process, with a hook of their own."""

    def __init__(self, process: IndexProcess, on_wait: OnWait) -> None:
        self._process = process
        self._on_wait = on_wait

    def observed(self, on_wait: OnWait) -> Operations:
        return _Observed(self._process, on_wait)

    def submit(self, operation: str, *arguments: Any) -> Future[Any]:
        return self._process.submit(operation, *arguments)

    def wait_for(self, future: Future[T]) -> T:
        return self._process.wait_observed(future, self._on_wait)
