"""The parent's side of the chunking processes: hands out files, enforces limits, starts processes again.

Two lanes. Files are cut one after another by one process, which is as fast as the store takes them. A file that takes
longer than `SLICE_S` leaves that lane: its process goes on with it, and another one is started for the others. There
are so many of these slow ones at the most; past that the file is put off, and cut from its beginning when there is
room. So no file ever waits for more than a moment behind one that stalls.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from reposyncd.child_process import LEAVE_S, ChildProcess, has_crashed
from reposyncd.chunking.verdict import Trial
from reposyncd.chunking.worker import Answer, File
from reposyncd.errors import ChunkerLostError, ReposyncError, TransientStoreError
from reposyncd.model import Cut

SLICE_S = 0.3
"""Seconds after which a file makes way. One of a megabyte takes 0.1 to 0.3."""

SLOW_AT_MOST = 2
"""Processes that cut files that take long, beside the one for all the others. Each may take `memory_bytes`."""

LOOK_S = 0.05
"""Between two looks at the processor time of a process that cuts."""

HANG_S = 30.0
"""A process that has used no processor time for so long, though it has something to do, hangs."""

LOOKED_AT_MOST_S = 2 * LOOK_S
"""What counts of the time between two looks: not that in which the machine, or this process, was stopped."""

STARTS_AT_MOST = 4
"""Processes in a row that end before they are ready: then there is trouble that concerns every file."""

KEPT_BYTES = 16 << 20
"""Of files that were cut when nobody waited for them any more: their chunks are kept for who asks again."""

KNOWN_SLOW_AT_MOST = 1000
"""Contents that are known to take long, and go to the slow lane at once: 100 bytes each."""

_Key = tuple[str, str, bool]
"""(path, digest, whether it may hold secrets)"""


@dataclass(eq=False, slots=True)
class _Task:
    number: int
    key: _Key
    data: bytes
    trial: Trial
    future: Future[Cut] = field(default_factory=Future)
    not_before: float = -math.inf
    """monotonic seconds"""
    is_wanted: bool = True
    is_slow: bool = False


@dataclass(eq=False, slots=True)
class _Child:
    slot: int
    life: ChildProcess
    is_ready: bool = False
    task: _Task | None = None
    since: float = 0.0
    """when it began to do what it does, monotonic seconds"""
    cpu_before_s: float = 0.0
    """its processor time then"""
    cpu_s: float = 0.0
    """as of the last look"""
    still_s: float = 0.0
    """for how long that has stood still"""
    sentence: Callable[[], None] | None = None
    """it was killed by us, and what is to be done when it is gone"""
    is_gone: bool = False


class ChunkingPool:
    """A `ports.Chunker` whose work is done by child processes that are killed when they take too long.

    The first is started by `start` or by the first file; they leave after `idle_s` without one, and with this process.
    `slow_at_most` is as in `SLOW_AT_MOST`. `on_death` is told, from a thread of its own, why a child has died that was
    not told to.
    """

    def __init__(
        self,
        state_dir: str,
        *,
        memory_bytes: int,
        idle_s: float = math.inf,
        slow_at_most: int = SLOW_AT_MOST,
        on_death: Callable[[str], None] = lambda why: None,
    ) -> None:
        self._state_dir = state_dir
        self._memory_bytes = memory_bytes
        self._idle_s = idle_s
        self._slow_at_most = slow_at_most
        self._on_death = on_death
        self._changed = threading.Condition()
        """guards all that follows"""
        self._number = 0
        """of the last task"""
        self._tasks: dict[_Key, _Task] = {}
        """those that are waiting or being cut, and results that nobody has taken"""
        self._kept_bytes = 0
        self._waiting: deque[_Task] = deque()
        self._put_off: deque[_Task] = deque()
        """those for the slow lane"""
        self._known_slow: dict[_Key, None] = {}
        self._children: list[_Child] = []
        self._failed_starts = 0
        self._start_after = -math.inf
        self._wants_one = False
        self._attendant: threading.Thread | None = None
        self._looked = 0.0
        self._sleeps = False
        """whether the attendant waits to be told that there is something to do"""
        self._closed = False

    # Chunker ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """See `ports.Chunker`."""
        with self._changed:
            if not self._closed and not self._children:
                self._wants_one = True
                self._attend()

    def begin(self, path: str, data: bytes, digest: str, *, allow_secrets: bool = False) -> Future[Cut]:
        """See `ports.Chunker`."""
        key = (path, digest, allow_secrets)
        with self._changed:
            if self._closed:
                raise ChunkerLostError("the chunking processes were closed")
            task = self._tasks.get(key)
            if task is None:
                self._number += 1
                task = _Task(self._number, key, data, Trial(len(data)), is_slow=key in self._known_slow)
                self._tasks[key] = task
                self._queue(task)
                self._hand_out()
                self._attend()
            elif task.future.done():
                self._take(task)
            task.is_wanted = True
            return task.future

    def release(self) -> None:
        """See `ports.Chunker`."""
        with self._changed:
            for lane in (self._waiting, self._put_off):
                for task in [each for each in lane if not each.trial.has_begun]:  # what is known is not found out again
                    lane.remove(task)
                    del self._tasks[task.key]
            for task in self._tasks.values():
                task.is_wanted = False

    @property
    def stalled_s(self) -> float:
        """See `ports.Chunker`."""
        with self._changed:
            return time.monotonic() - self._looked if self._attendant and self._is_busy else 0.0

    def close(self) -> None:
        """See `ports.Chunker`."""
        with self._changed:
            self._closed = True
            for child in self._children:
                self._kill(child, lambda: None)
            self._fail_all(ChunkerLostError("the chunking processes were closed"))
            self._changed.notify_all()
            # They are dead already, unless the disk that they read from hangs; this is until they are buried.
            self._changed.wait_for(lambda: not self._children, LEAVE_S)

    @property
    def pids(self) -> list[int]:
        """The processes that run."""
        with self._changed:
            return [child.life.pid for child in self._children if not child.is_gone]

    @property
    def busy(self) -> dict[int, str]:
        """What is being cut: the paths, by the process that does."""
        with self._changed:
            return {child.life.pid: child.task.key[0] for child in self._children if child.task and not child.is_gone}

    # Under the lock ---------------------------------------------------------------------------------------

    @property
    def _is_busy(self) -> bool:
        return bool(self._waiting or self._put_off or any(child.task or not child.is_ready for child in self._children))

    def _queue(self, task: _Task, *, first: bool = False) -> None:
        if task.future.done():  # all have failed, while its process was dying
            return
        lane = self._put_off if task.is_slow else self._waiting
        if first:
            lane.appendleft(task)
        else:
            lane.append(task)

    def _attend(self) -> None:
        """Somebody looks after what there is."""
        if self._attendant is not None:
            if self._sleeps:
                self._looked = time.monotonic()  # there was nothing to look after until now
            if self._sleeps or self._lacks_a_child(time.monotonic()):
                self._changed.notify_all()
        else:
            thread = threading.Thread(target=self._look_after, name="chunking", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                self._fail_all(trouble := ChunkerLostError(f"the chunking process could not be started: {error}"))
                raise trouble from error
            self._attendant = thread
            self._looked = time.monotonic()

    def _hand_out(self) -> None:
        """Gives the children that have nothing to do what there is."""
        now = time.monotonic()
        for child in self._children:
            if child.is_ready and child.task is None and child.sentence is None and not child.is_gone:
                task = self._next(now)
                if task is None:
                    return
                try:
                    child.cpu_s = child.life.cpu_s()
                except OSError:  # it has just died
                    self._queue(task, first=True)
                    continue
                child.task, child.since, child.cpu_before_s, child.still_s = task, now, child.cpu_s, 0.0
                how = "plain" if task.trial.as_plain_lines else "parse"
                path, _, allow_secrets = task.key
                child.life.send((task.number, how, File(path, task.data, allow_secrets)))

    def _next(self, now: float) -> _Task | None:
        """What a child that has nothing to do is to cut."""
        at_work = [child.task.is_slow for child in self._children if child.task]
        if self._waiting and False not in at_work:
            return self._waiting.popleft()
        if at_work.count(True) < self._slow_at_most:
            for task in self._put_off:
                if task.not_before <= now:
                    self._put_off.remove(task)
                    return task
        return None

    def _lacks_a_child(self, now: float) -> bool:
        if self._wants_one and not self._children:
            return True
        if now < self._start_after or any(child.task is None for child in self._children):
            return False
        at_work = [child.task.is_slow for child in self._children if child.task]
        lacks_slow = at_work.count(True) < self._slow_at_most and any(each.not_before <= now for each in self._put_off)
        # Where all take long, the next file is not to wait for a process that begins.
        return lacks_slow or (False not in at_work and bool(self._waiting or at_work))

    def _kill(self, child: _Child, sentence: Callable[[], None]) -> None:
        if child.sentence is None and not child.is_gone:
            child.sentence = sentence
            child.life.kill()

    def _enforce(self, now: float, passed_s: float) -> None:
        """Looks at each child, `passed_s` after the last time, and kills the one that has had enough."""
        for child in self._children:
            if child.sentence is not None or child.is_gone:
                continue
            with suppress(OSError):  # it has just died, and is about to be buried
                cpu_s = child.life.cpu_s()
                child.still_s = child.still_s + passed_s if cpu_s == child.cpu_s else 0.0
                child.cpu_s = cpu_s
            task = child.task
            if task is None:
                if not child.is_ready and child.still_s > HANG_S:
                    self._kill(child, partial(self._start_failed, "hangs"))
                elif child.is_ready and now - child.since > self._idle_s:
                    self._kill(child, lambda: None)
            elif child.cpu_s - child.cpu_before_s > task.trial.limit_s:
                self._kill(child, partial(self._took_too_long, task))
            elif child.still_s > HANG_S:
                blame = self._lost_its_process if child.life.is_held() else self._killed_its_process
                self._kill(child, partial(blame, task, f"made no progress for {HANG_S:.0f} s"))
            elif not task.is_slow and now - child.since > SLICE_S:
                self._make_way(child, task)

    def _make_way(self, child: _Child, task: _Task) -> None:
        """The file takes long. Its process goes on with it if there may be one more that does."""
        if sum(other.task.is_slow for other in self._children if other.task) < self._slow_at_most:
            self._is_known_slow(task)
        elif self._waiting:
            self._is_known_slow(task)
            self._kill(child, partial(self._queue, task))

    def _took_too_long(self, task: _Task) -> None:
        self._conclude(task, task.trial.took_too_long())

    def _killed_its_process(self, task: _Task, how: str) -> None:
        self._conclude(task, task.trial.killed_its_process(how))

    def _lost_its_process(self, task: _Task, how: str) -> None:
        self._conclude(task, task.trial.lost_its_process(how))

    def _is_known_slow(self, task: _Task) -> None:
        task.is_slow = True
        self._known_slow[task.key] = None
        if len(self._known_slow) > KNOWN_SLOW_AT_MOST:
            del self._known_slow[next(iter(self._known_slow))]

    def _conclude(self, task: _Task, found: Cut | ReposyncError | None) -> None:
        """What has become of a task; None: it is to be cut again."""
        if task.future.done():  # all have failed, while its process was dying
            return
        if found is None:
            self._is_known_slow(task)
            task.not_before = time.monotonic() + task.trial.wait_s
            self._queue(task, first=True)
            return
        if isinstance(found, ReposyncError):
            task.future.set_exception(found)
        else:
            task.future.set_result(found)
        if task.is_wanted:
            self._tasks.pop(task.key, None)
        else:
            self._keep(task)
        task.data = b""

    def _keep(self, task: _Task) -> None:
        """The result, until somebody asks for it; the oldest of them make room."""
        self._tasks[task.key] = self._tasks.pop(task.key)
        self._kept_bytes += task.trial.size
        for other in [each for each in self._tasks.values() if each.future.done()]:
            if self._kept_bytes <= KEPT_BYTES:
                return
            self._take(other)

    def _take(self, task: _Task) -> None:
        del self._tasks[task.key]
        self._kept_bytes -= task.trial.size

    def _fail_all(self, trouble: ChunkerLostError) -> None:
        tasks = [task for task in self._tasks.values() if not task.future.done()]
        self._waiting.clear()
        self._put_off.clear()
        self._tasks.clear()
        self._kept_bytes = 0
        for child in self._children:
            if child.task:  # what it is doing is nobody's
                child.task = None
                self._kill(child, lambda: None)
        for task in tasks:
            task.future.set_exception(trouble)

    def _start_failed(self, how: str) -> None:
        self._failed_starts += 1
        self._start_after = time.monotonic() + 0.1 * 2**self._failed_starts
        if self._failed_starts >= STARTS_AT_MOST:
            self._failed_starts = 0
            self._fail_all(ChunkerLostError(f"the chunking process could not be started: it {how}"))

    # The thread that looks after them ---------------------------------------------------------------------

    def _look_after(self) -> None:
        try:
            with self._changed:
                while self._is_needed():
                    now = time.monotonic()
                    passed_s, self._looked = min(now - self._looked, LOOKED_AT_MOST_S), now
                    self._enforce(now, passed_s)
                    self._hand_out()
                    if self._lacks_a_child(now):
                        self._wants_one = False
                        self._changed.release()
                        try:
                            self._start_one()
                        finally:
                            self._changed.acquire()
                    elif self._is_busy:
                        self._changed.wait(LOOK_S)
                    else:
                        self._sleeps = True
                        self._changed.wait(max(LOOK_S, min(self._idle_s, threading.TIMEOUT_MAX)))
                        self._sleeps, self._looked = False, time.monotonic()
        except BaseException as error:
            with self._changed:
                self._attendant = None
                for child in self._children:
                    self._kill(child, lambda: None)
                self._fail_all(ChunkerLostError("the chunking processes were lost"))
            self._on_death(f"the thread that looks after it has died: {type(error).__name__}")

    def _is_needed(self) -> bool:
        if self._closed or not (self._children or self._is_busy or self._wants_one):
            self._attendant = None
            return False
        return True

    def _start_one(self) -> None:
        slot = min({*range(1, len(self._children) + 2)} - {child.slot for child in self._children})
        try:
            life = ChildProcess(
                "chunk",
                "the chunking process",
                self._state_dir,
                f"chunking-process-{slot}.log",
                [str(self._memory_bytes)],
            )
        except TransientStoreError as error:
            with self._changed:
                self._fail_all(ChunkerLostError(str(error)))
            return
        child = _Child(slot, life, since=time.monotonic())
        with self._changed:
            try:
                threading.Thread(target=self._receive, args=(child,), name="chunking-replies", daemon=True).start()
            except RuntimeError as error:
                life.reap()
                self._fail_all(ChunkerLostError(f"the chunking process could not be started: {error}"))
                return
            self._children.append(child)
            if self._closed:
                self._kill(child, lambda: None)

    # A thread for each of them ----------------------------------------------------------------------------

    def _receive(self, child: _Child) -> None:
        """Takes its answers until it is gone."""
        while True:
            try:
                answer = child.life.receive()
            except Exception:
                break  # its end, or an answer that cannot be read: either way it is replaced
            with self._changed:
                if not self._answered(child, answer):
                    break
        with self._changed:
            child.is_gone = True
        child.life.reap(0.0 if child.sentence else LEAVE_S)
        death = ""
        with self._changed:
            self._children.remove(child)
            if child.sentence is not None:
                child.sentence()
            else:
                death = child.life.exit_reason()
                self._died(child, death)
            self._hand_out()
            self._changed.notify_all()
        if death:
            self._on_death(death)

    def _answered(self, child: _Child, answer: Answer) -> bool:
        """Whether it may go on."""
        if child.sentence is not None:
            return True  # its end is near
        task, child.task, child.since = child.task, None, time.monotonic()
        if answer.number is None:
            child.is_ready, self._failed_starts = True, 0
        elif task is not None:
            if answer.is_memory:
                child.sentence = partial(self._killed_its_process, task, "ran out of memory")
                return False
            if answer.error:
                self._conclude(task, task.trial.raised(answer.error))
            else:
                self._conclude(task, task.trial.cut(answer.cut()))
        self._hand_out()
        return True

    def _died(self, child: _Child, how: str) -> None:
        task = child.task
        if not child.is_ready:
            self._start_failed(how)
        elif task is not None and has_crashed(child.life.returncode):
            self._killed_its_process(task, how)
        elif task is not None:
            self._lost_its_process(task, how)
