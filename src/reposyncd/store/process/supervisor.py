"""The parent's side of the index process: asks it, kills it when it is late, starts it again."""

from __future__ import annotations

import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from reposyncd.child_process import LEAVE_S, ChildProcess
from reposyncd.errors import CONCERN_ONE_OPERATION, LethalOperationError, TransientStoreError
from reposyncd.model import Applied, Batch, Hit, Record, Waiting
from reposyncd.ports import Outcome
from reposyncd.store.chroma.directory import translated
from reposyncd.store.chroma.salvage import SALVAGE

T = TypeVar("T")

NO_EMBEDDER = None
"""For a process that is never to embed."""

_POLL_S = 1.0
"""Between two looks at the clock: deadlines are tens of seconds."""

_TELL_S = 0.5
"""Between two calls of `on_wait`."""

_LIVES = 2
"""Children that one request may cost. The second shows that it was no accident."""

_LATE_S = 3.0
"""A look at the clock that comes so much later than it was to shows that the whole machine was held up: a child that
is late then may be innocent."""

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS", "TOKIO_WORKER_THREADS")
"""What numpy, the tokenizers and Chroma ask how many threads to make."""


def thread_limits(threads: int) -> dict[str, str]:
    """The environment of a child that makes no more threads than this to compute; 0: as it likes."""
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
        """It was under way: chunks that it has stored are not to be embedded again."""
        if self.operation == "apply":
            collection, batch = self.arguments
            added = tuple(each if each.source else each._replace(source=each.row.id) for each in batch.added)
            self.arguments = (collection, batch._replace(added=added))


class IndexProcess:
    """A `ports.VectorIndex` whose work is done by a child process.

    The child is started by the first operation (or `start`), and leaves after `idle_s` without one. When it dies,
    or an operation takes longer than `deadline_s` (and what `slack_s` said at its start), it is killed and started
    again, and what was not answered is sent again in order: operations are idempotent. An operation in which two
    children have crashed, or hung while the machine was responsive, fails with LethalOperationError. If two were ended
    in it by somebody else (the kernel, for want of memory), nothing is held against it: everything that waits fails
    with TransientStoreError. After an error that may pass (a full disk) the child is given up, since Chroma's client is
    of no use any more, and everything that waits fails with that error. The errors in `CONCERN_ONE_OPERATION` fail one
    operation only: a lock that another program holds, and trouble of the embedder.

    `embedder` says which embedder the child is to have, if any. The child gets it over its socket, as it is.
    `environment` is what the child gets beside the little that it inherits. `on_death` is told, from a thread of its
    own, why a child has died or was killed that was not asked to leave.

    Operations may be called from any thread. `close` ends the child; it also ends when this process does.
    """

    def __init__(
        self,
        state_dir: str,
        chroma_dir: str,
        embedder: object,
        *,
        lock_timeout_s: float,
        deadline_s: float,
        idle_s: float = math.inf,
        slack_s: Callable[[], float] = lambda: 0.0,
        log_name: str = "index-process.log",
        environment: Mapping[str, str] = MappingProxyType({}),
        on_death: Callable[[str], None] = lambda why: None,
    ) -> None:
        self._environment = environment
        self._state_dir = state_dir
        self._chroma_dir = chroma_dir
        self._embedder = embedder
        self._arguments = [repr(lock_timeout_s), os.path.join(state_dir, SALVAGE)]
        self._deadline_s = deadline_s
        self._idle_s = idle_s
        self._slack_s = slack_s
        self._log_name = log_name
        self._lock = threading.Lock()
        self._requests: deque[_Request] = deque()
        self._life: ChildProcess | None = None
        self._waiting: Waiting | None = None
        self._closed = False
        self._lives = 0
        self._on_death = on_death
        self._looked = 0.0
        """when the thread that receives last came by, monotonic"""
        self.on_wait: Callable[[Waiting | None], None] = lambda waiting: None

    # VectorIndex ----------------------------------------------------------------------------------------

    def open(self, collection: str, metadata: Mapping[str, str]) -> int:
        return int(self._do("open", collection, dict(metadata)))

    def apply(self, collection: str, batch: Batch) -> Outcome[Applied]:
        return _Pending(self, self._submit("apply", collection, batch))

    def delete(self, collection: str, ids: Sequence[str]) -> Outcome[None]:
        return _Pending(self, self._submit("delete", collection, list(ids)))

    def drop(self, collection: str) -> None:
        self._do("drop", collection)

    def collections(self) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = self._do("collections")
        return found

    def probe(self, collection: str) -> None:
        self._do("probe", collection)

    def ids(self, collection: str) -> set[str]:
        found: set[str] = self._do("ids", collection)
        return found

    def labels(self, collection: str) -> dict[str, int]:
        found: dict[str, int] = self._do("labels", collection)
        return found

    def records(self, collection: str, ids: Sequence[str] | None = None) -> list[Record]:
        found: list[Record] = self._do("records", collection, None if ids is None else list(ids))
        return found

    def embed(self, texts: Sequence[str]) -> list[tuple[float, ...]]:
        found: list[tuple[float, ...]] = self._do("embed", list(texts))
        return found

    def query(self, collection: str, wanted: str | Sequence[float], limit: int) -> list[Hit]:
        asked = wanted if isinstance(wanted, str) else tuple(wanted)
        found: list[Hit] = self._submit("query", collection, asked, limit).result()
        return found

    # Chroma's own work, on a directory of ours ----------------------------------------------------------

    def persist(self, compact: Sequence[str]) -> None:
        """Writes every collection's vector index to its files and empties Chroma's log; those in `compact` are
        first written anew, without what was deleted. Not safe against a crash: for a copy."""
        self._do("persist", list(compact))

    def count(self, collection: str) -> int:
        """How many records there are."""
        return int(self._do("count", collection))

    def survey(self) -> None:
        """As `inspection.survey`; the first thing that this child does."""
        self._do("survey")

    def read(self, collection: str, ids: Sequence[str]) -> None:
        """Reads these records, vectors included. Raises CorruptStoreError if that fails."""
        self._do("read", collection, list(ids))

    # The child's life -----------------------------------------------------------------------------------

    @property
    def pid(self) -> int | None:
        """The child's process id while it runs."""
        with self._lock:
            return self._life.pid if self._life else None

    @property
    def life(self) -> int:
        """Which child it is, counted from 1; 0 while there is none."""
        with self._lock:
            return self._lives if self._life else 0

    def start(self) -> None:
        """Starts the child now, so that its imports overlap with the caller's own work."""
        with self._lock:
            self._ensure_child()

    @property
    def stalled_s(self) -> float:
        """For how long the thread that enforces deadlines has not come by; 0 if there is nothing that it waits for."""
        with self._lock:
            return time.monotonic() - self._looked if self._life and self._requests else 0.0

    def abandon(self) -> None:
        """As `close`, but the child is killed without being asked to leave."""
        with self._lock:
            self._closed = True
        self.release(0.0)

    def release(self, leave_s: float = LEAVE_S) -> None:
        """Ends the child. What it has not answered fails; the next operation starts another."""
        with self._lock:
            life, self._life = self._life, None
            requests, self._requests = list(self._requests), deque()
            self._waiting = None
        if life:
            life.end(leave_s)
        for request in requests:
            request.future.set_exception(TransientStoreError("the index process was closed"))

    def close(self) -> None:
        """Ends the child and waits until it is gone. What is not answered by then fails, and what comes later."""
        with self._lock:
            self._closed = True
        self.release()

    def _do(self, operation: str, *arguments: Any) -> Any:
        return self.wait_for(self._submit(operation, *arguments))

    def wait_for(self, future: Future[T]) -> T:
        """The future's result, with `on_wait` called meanwhile."""
        while True:
            try:
                return future.result(_TELL_S)
            except TimeoutError:
                if future.done():
                    raise
                self.on_wait(self._waiting)

    def _submit(self, operation: str, *arguments: Any) -> Future[Any]:
        request = _Request(operation, arguments)
        with self._lock:
            if self._closed:
                raise TransientStoreError("the index process was closed")
            life = self._ensure_child()
            self._requests.append(request)
            life.send((id(request), operation, arguments))
        return request.future

    def _ensure_child(self) -> ChildProcess:
        if self._life is None:
            # Its real place: a link that is set to another directory must not mix two of them in one client.
            place = os.path.realpath(self._chroma_dir)
            if not os.path.lexists(self._chroma_dir):
                with translated(place):
                    os.mkdir(place, 0o700)
            arguments = [place, *self._arguments]
            slack_s = self._slack_s()
            life = ChildProcess(
                "store", "the index process", self._state_dir, self._log_name, arguments, self._environment
            )
            try:
                threading.Thread(target=self._attend, args=(life, slack_s), name="index-replies", daemon=True).start()
            except RuntimeError as error:
                life.reap()
                raise TransientStoreError(f"the index process could not be started: {error}") from error
            life.send((0, "embedder", (self._embedder,)))  # which may hold a secret, and so is no argument
            self._life = life
            self._lives += 1
            self._looked = time.monotonic()
        return self._life

    def _attend(self, life: ChildProcess, slack_s: float) -> None:
        """The thread that receives. Whatever becomes of it, nobody is left waiting."""
        try:
            self._receive(life, slack_s)
        except BaseException as error:
            self._on_death(f"the thread that receives its answers has died: {type(error).__name__}")
            with suppress(OSError):
                life.reap()
            self._fail_all(life, TransientStoreError("the index process was lost"))

    def _receive(self, life: ChildProcess, slack_s: float) -> None:
        """Resolves futures until the child is dead; then starts the next one with what is left."""
        late = is_innocent = False
        trouble: TransientStoreError | None = None
        while True:
            try:
                busy, since, held_up = False, time.monotonic(), False
                looked = since
                while not life.poll(_POLL_S):
                    self._looked = time.monotonic()
                    held_up, looked = held_up or self._looked > looked + _POLL_S + _LATE_S, self._looked
                    with self._lock:
                        if self._life is not life:
                            raise EOFError
                        if busy != bool(self._requests):
                            busy, since = not busy, time.monotonic()
                        elapsed = time.monotonic() - since
                        if busy and elapsed > self._deadline_s + slack_s:
                            late, is_innocent = True, held_up or life.is_held()
                            raise EOFError
                        if not busy and elapsed > self._idle_s:
                            self._life = None
                            raise EOFError
                number, succeeded, value = life.receive()
                self._looked = time.monotonic()
            except Exception:
                break  # its end, or an answer that cannot be read: either way it is replaced, and asked again
            if number is None:
                self._waiting = value
                continue
            with self._lock:
                self._waiting = None
                if self._life is not life or not self._requests or id(self._requests[0]) != number:
                    break  # released meanwhile
                if isinstance(value, TransientStoreError) and not isinstance(value, CONCERN_ONE_OPERATION):
                    trouble = value
                    break
                request = self._requests.popleft()
            if succeeded:
                request.future.set_result(value)
            else:
                request.future.set_exception(value)
        life.reap()
        if trouble:
            self._fail_all(life, trouble)
        elif late:
            self._recover(life, "was killed: no answer within its deadline", is_evidence=not is_innocent)
        else:
            self._recover(life, life.exit_reason(), is_evidence=life.has_crashed())

    def _fail_all(self, life: ChildProcess, trouble: TransientStoreError) -> None:
        with self._lock:
            if self._life is not life:
                return
            self._life = None
            requests, self._requests = list(self._requests), deque()
        for request in requests:
            request.future.set_exception(trouble)

    def _recover(self, life: ChildProcess, cause: str, *, is_evidence: bool) -> None:
        with self._lock:
            if self._life is not life:
                return
            self._life = None
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
                if first.crashes >= _LIVES:
                    lethal = self._requests.popleft()
                elif first.ends >= _LIVES:
                    left = f"that {_LIVES} times in the same operation ({first.operation})"
                    orphans, self._requests = list(self._requests), deque()
            if self._requests:
                try:
                    successor = self._ensure_child()
                except Exception:  # whatever it was, nobody may be left waiting
                    orphans, self._requests = list(self._requests), deque()
                else:
                    self._requests[0].may_be_done()
                    for request in self._requests:
                        successor.send((id(request), request.operation, request.arguments))
        if lethal:
            lethal.future.set_exception(
                LethalOperationError(
                    f"the index process {cause}, {_LIVES} times in the same operation ({lethal.operation}); "
                    f"see {life.log_path}"
                )
            )
        for request in orphans:
            request.future.set_exception(TransientStoreError(f"the index process {cause}, and {left}"))


@dataclass(frozen=True, slots=True)
class _Pending(Generic[T]):
    """A `ports.Outcome` whose wait tells `on_wait`."""

    process: IndexProcess
    future: Future[T]

    def result(self) -> T:
        return self.process.wait_for(self.future)
