"""The parent's side of the index process: sends requests, kills the process when it is late, and starts it again."""

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

from reposyncd.child_process import GRACEFUL_EXIT_S, ChildProcess
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
"""Time between two calls of `on_wait`."""

_CHILDREN_AT_MOST = 2
"""How many children one request may use. The second one shows that the end of the first was no accident."""

_LATE_S = 3.0
"""If a check is late by this much, the whole machine was slow or suspended, and a child that has missed its deadline
may not be to blame."""

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS", "TOKIO_WORKER_THREADS")
"""The variables from which numpy, the tokenizers and Chroma read how many threads they may start."""


def thread_limits(threads: int) -> dict[str, str]:
    """The environment of a child that computes with at most this many threads; 0: no limit."""
    return dict.fromkeys(_THREADS, str(threads)) if threads else {}


@dataclass(slots=True)
class _Request:
    operation: str
    arguments: tuple[Any, ...]
    future: Future[Any] = field(default_factory=Future)
    ends: int = 0
    """how many children have ended during the operation"""
    crashes: int = 0
    """how many of these it may have crashed"""

    def may_be_done(self) -> None:
        """The operation was under way: chunks that it has already stored need not be embedded again."""
        if self.operation == "apply":
            collection, batch = self.arguments
            added = tuple(each if each.source else each._replace(source=each.row.id) for each in batch.added)
            self.arguments = (collection, batch._replace(added=added))


class IndexProcess(Operations):
    """A `ports.RunningIndex` whose operations are carried out by a child process.

    The first operation (or `start`) starts the child. It exits after `idle_s` without an operation. If it dies, or an
    operation takes longer than `deadline_s` (plus the slack of the address), it is killed and started again, and
    everything that it has not answered is sent again in order: operations are idempotent. If two children have crashed
    in the same operation, or hung while the machine was responsive, that operation fails with LethalOperationError. If
    two were killed from outside during it (by the kernel, because memory was short), it is not to blame, and all
    pending operations fail with TransientStoreError. After an error that may pass (a full disk), Chroma's client cannot
    be used any more. So the child is ended, and all pending operations fail with that error. The errors in
    `CONCERN_ONE_OPERATION` fail only one operation: another program holds a lock, or the embedder has a fault.

    `embedder` is the spec of the child's embedder, if it has one. It is passed unchanged over the socket. `environment`
    has variables that the child gets in addition to the few that it inherits. If a child dies, or is killed, without
    having been asked to exit, `on_death` is called from a separate thread with the reason. `on_wait` is the hook for
    callers that have not created an `observed` index.

    Operations may be called from any thread. `close` ends the child. It also ends with this process.
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
        """when the receiving thread last made progress, monotonic seconds"""

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
        """The result of the future. In the meantime, `on_wait` is called."""
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
        """The process id of the child, while it runs."""
        with self._lock:
            return self._child.pid if self._child else None

    @property
    def session(self) -> int:
        """The number of the child, counted from 1; 0 while there is none."""
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

    def release(self, exit_s: float = GRACEFUL_EXIT_S) -> None:
        """Ends the child. Unanswered operations fail. The next operation starts another child."""
        with self._lock:
            child, self._child = self._child, None
            requests, self._requests = list(self._requests), deque()
            self._waiting = None
        if child:
            child.end(exit_s)
        for request in requests:
            request.future.set_exception(TransientStoreError("the index process was closed"))

    def close(self) -> None:
        """Ends the child and waits until it is gone. Unanswered operations fail, and so does every later call."""
        with self._lock:
            self._closed = True
        self.release()

    def abandon(self) -> None:
        """Like `close`, but kills the child without asking it to exit."""
        with self._lock:
            self._closed = True
        self.release(0.0)

    def _ensure_child(self) -> ChildProcess:
        if self._child is None:
            address = (self._store.kind, *self._store.arguments())
            slack_s = self._store.slack_s()
            child = ChildProcess("store", "the index process", self._state_dir, self._log_name, (), self._environment)
            try:
                threading.Thread(
                    target=self._supervise, args=(child, slack_s), name="index-replies", daemon=True
                ).start()
            except RuntimeError as error:
                child.reap()
                raise TransientStoreError(f"the index process could not be started: {error}") from error
            # Not as arguments of the command, which other users can read: both may contain a secret.
            child.send((0, "begin", (self._embedder, address)))
            self._child = child
            self._sessions += 1
            self._polled = time.monotonic()
        return self._child

    def _supervise(self, child: ChildProcess, slack_s: float) -> None:
        """Runs in the receiving thread. If it fails, all pending operations fail, too."""
        try:
            self._receive(child, slack_s)
        except BaseException as error:
            self._on_death(f"the thread that receives its replies has died: {type(error).__name__}")
            with suppress(OSError):
                child.reap()
            self._fail_all(child, TransientStoreError("the index process was lost"))

    def _receive(self, child: ChildProcess, slack_s: float) -> None:
        """Resolves futures until the child is dead. Then starts the next child with the rest."""
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
                break  # it has ended, or sent a reply that cannot be read: either way, it is replaced
            if number is None:
                self._waiting = value
                continue
            with self._lock:
                self._waiting = None
                if self._child is not child or not self._requests or id(self._requests[0]) != number:
                    break  # it was released in the meantime
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
            self._recover(child, "was killed: no reply within its deadline", is_evidence=not is_innocent)
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
                # The child was working on the first unanswered request. The others were only waiting.
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
    """The operations of an index process, with a separate hook."""

    def __init__(self, process: IndexProcess, on_wait: OnWait) -> None:
        self._process = process
        self._on_wait = on_wait

    def observed(self, on_wait: OnWait) -> Operations:
        return _Observed(self._process, on_wait)

    def submit(self, operation: str, *arguments: Any) -> Future[Any]:
        return self._process.submit(operation, *arguments)

    def wait_for(self, future: Future[T]) -> T:
        return self._process.wait_observed(future, self._on_wait)
