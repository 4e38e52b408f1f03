"""The parent's side of the chunking processes: passes files to them, enforces limits, and replaces those that died.

Normally, one process cuts one file after another, which is as fast as the store takes the chunks. A file that takes
longer than `SLOW_AFTER_S` leaves this fast lane: its process continues with it, and another process is started for the
other files. At most `SLOW_AT_MOST` files are cut in this way. If there are more, a slow file is stopped, and cut from
its beginning when there is room. So no file waits for more than a moment behind one that stalls.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

from reposyncd.child_process import GRACEFUL_EXIT_S, has_crashed
from reposyncd.chunking import process as processes
from reposyncd.chunking.process import ChunkingProcess, start_process
from reposyncd.chunking.tasks import ChunkingTask, TaskQueue
from reposyncd.chunking.worker import Answer
from reposyncd.errors import ChunkerLostError, ReposyncError, TransientStoreError
from reposyncd.model import Cut

SLOW_AFTER_S = 0.3
"""A file that takes longer leaves the fast lane. A file of a megabyte takes 0.1 to 0.3 seconds."""

SLOW_AT_MOST = 2
"""How many processes may cut slow files, besides the one for all other files. Each may use `memory_bytes`."""

CHECK_INTERVAL_S = 0.05
"""How often the limits are checked, while something is being cut."""

MAX_COUNTED_S = 2 * CHECK_INTERVAL_S
"""At most this much time counts between two checks. If more has passed, the machine or this process was stopped."""

MAX_FAILED_STARTS = 4
"""If this many processes in a row end before they are ready, the cause is not a file, and every task fails."""

FIRST_RESTART_WAIT_S = 0.2
"""How long to wait after the first failed start. The wait doubles with each further failure."""


def _nothing() -> None:
    """What to do when a process is gone that was idle, or that nobody needs any more."""


class ChunkingPool:
    """A `ports.Chunker` that works in child processes, and kills a child that takes too long.

    `start`, or the first file, starts the first process. Processes end after `idle_s` seconds without work, and with
    this process. `slow_at_most` is as `SLOW_AT_MOST`. If a child dies that the pool has not killed, `on_death` is
    called with the reason, from a thread of the pool, outside every lock.
    """

    def __init__(
        self,
        state_dir: str,
        *,
        memory_bytes: int,
        idle_s: float = math.inf,
        slow_at_most: int = SLOW_AT_MOST,
        on_death: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self._state_dir = state_dir
        self._memory_bytes = memory_bytes
        self._idle_s = idle_s
        self._on_death = on_death
        self._changed = threading.Condition()
        """guards everything below"""
        self._queue = TaskQueue(slow_at_most)
        self._processes: list[ChunkingProcess] = []
        self._failed_starts = 0
        """in a row"""
        self._no_start_before = -math.inf
        """monotonic seconds"""
        self._start_requested = False
        self._monitor: threading.Thread | None = None
        """the thread that starts processes and enforces the limits; None while there is nothing to monitor"""
        self._checked_at = 0.0
        """when the monitor last checked the limits, monotonic seconds"""
        self._monitor_sleeps = False
        """whether the monitor waits for a notification, since there is nothing to check"""
        self._closed = False

    def start(self) -> None:
        """See `ports.Chunker`."""
        with self._changed:
            if not self._closed and not self._processes:
                self._start_requested = True
                self._wake_monitor()

    def begin(self, path: str, data: bytes, digest: str, *, allow_secrets: bool = False) -> Future[Cut]:
        """See `ports.Chunker`."""
        key = (path, digest, allow_secrets)
        with self._changed:
            if self._closed:
                raise ChunkerLostError("the chunking processes were closed")
            task = self._queue.find(key)
            if task is None:
                task = self._queue.add(key, data)
                self._hand_out()
                self._wake_monitor()
            return task.future

    def release(self) -> None:
        """See `ports.Chunker`."""
        with self._changed:
            self._queue.release()

    @property
    def stalled_s(self) -> float:
        """See `ports.Chunker`."""
        with self._changed:
            return time.monotonic() - self._checked_at if self._monitor and self._is_busy else 0.0

    def close(self) -> None:
        """See `ports.Chunker`."""
        with self._changed:
            self._closed = True
            for process in self._processes:
                process.kill(_nothing)
            self._fail_all(ChunkerLostError("the chunking processes were closed"))
            self._changed.notify_all()
            # They die at once, unless the disk that they are reading from hangs. Then they have to be reaped.
            self._changed.wait_for(lambda: not self._processes, GRACEFUL_EXIT_S)

    @property
    def pids(self) -> list[int]:
        """The process ids of the processes that run."""
        with self._changed:
            return [process.child.pid for process in self._processes if not process.is_gone]

    @property
    def busy(self) -> dict[int, str]:
        """The paths of the files that are being cut, by process id."""
        with self._changed:
            return {
                process.child.pid: process.task.path
                for process in self._processes
                if process.task and not process.is_gone
            }

    # Under the lock ---------------------------------------------------------------------------------------

    @property
    def _is_busy(self) -> bool:
        return self._queue.has_waiting or any(each.task or not each.is_ready for each in self._processes)

    @property
    def _running(self) -> list[ChunkingTask]:
        return [process.task for process in self._processes if process.task]

    def _hand_out(self) -> None:
        """Gives a task to each free process, as long as there are tasks."""
        now = time.monotonic()
        for process in self._processes:
            if process.is_free:
                task = self._queue.take(self._running, now)
                if task is None:
                    return
                try:
                    process.give(task, now)
                except OSError:  # it has just died
                    self._queue.put(task, first=True)

    def _needs_process(self, now: float) -> bool:
        if self._start_requested and not self._processes:
            return True
        if now < self._no_start_before or any(process.task is None for process in self._processes):
            return False
        return self._queue.needs_another_process(self._running, now)

    def _enforce_limits(self, now: float, passed_s: float) -> None:
        """Checks each process, `passed_s` after the last check, and kills those that have exceeded a limit."""
        for process in self._processes:
            if process.is_ending:
                continue
            process.measure(passed_s)
            task = process.task
            if task is None:
                if not process.is_ready and process.hangs:
                    process.kill(partial(self._start_failed, "hangs"))
                elif process.is_ready and now - process.since > self._idle_s:
                    process.kill(_nothing)
            elif process.task_cpu_s > task.trial.limit_s:
                process.kill(partial(self._took_too_long, task))
            elif process.hangs:
                # If it was stopped, or waits for a disk, the file is not to blame.
                blame = self._lost_its_process if process.child.is_blocked() else self._killed_its_process
                process.kill(partial(blame, task, f"made no progress for {processes.HANG_S:.0f} s"))
            elif not task.is_slow and now - process.since > SLOW_AFTER_S and self._queue.demote(task, self._running):
                process.kill(partial(self._queue.put, task))

    def _took_too_long(self, task: ChunkingTask) -> None:
        self._conclude(task, task.trial.took_too_long())

    def _killed_its_process(self, task: ChunkingTask, how: str) -> None:
        self._conclude(task, task.trial.killed_its_process(how))

    def _lost_its_process(self, task: ChunkingTask, how: str) -> None:
        self._conclude(task, task.trial.lost_its_process(how))

    def _conclude(self, task: ChunkingTask, found: Cut | ReposyncError | None) -> None:
        self._queue.conclude(task, found, time.monotonic())

    def _fail_all(self, error: ChunkerLostError) -> None:
        for process in self._processes:
            if process.task:  # nobody needs its result
                process.task = None
                process.kill(_nothing)
        self._queue.fail_all(error)

    def _start_failed(self, how: str) -> None:
        self._no_start_before = time.monotonic() + FIRST_RESTART_WAIT_S * 2**self._failed_starts
        self._failed_starts += 1
        if self._failed_starts >= MAX_FAILED_STARTS:
            self._failed_starts = 0
            self._fail_all(ChunkerLostError(f"the chunking process could not be started: it {how}"))

    # The monitor thread -----------------------------------------------------------------------------------

    def _wake_monitor(self) -> None:
        """Starts the monitor if there is none. Under the lock. Raises ChunkerLostError, as every task then does."""
        if self._monitor is not None:
            now = time.monotonic()
            if self._monitor_sleeps:
                self._checked_at = now  # there was nothing to check until now
            if self._monitor_sleeps or self._needs_process(now):
                self._changed.notify_all()
            return
        thread = threading.Thread(target=self._run_monitor, name="chunking", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            self._fail_all(failure := ChunkerLostError(f"the chunking process could not be started: {error}"))
            raise failure from error
        self._monitor = thread
        self._checked_at = time.monotonic()

    def _run_monitor(self) -> None:
        try:
            with self._changed:
                while not self._closed and (self._processes or self._is_busy or self._start_requested):
                    self._check()
                self._monitor = None
        except BaseException as error:
            with self._changed:
                self._monitor = None
                for process in self._processes:
                    process.kill(_nothing)
                self._fail_all(ChunkerLostError("the chunking processes were lost"))
            self._on_death(f"the thread that monitors it has died: {type(error).__name__}")

    def _check(self) -> None:
        """Checks the limits once, then starts a process, or waits until the next check is due. Under the lock."""
        now = time.monotonic()
        passed_s, self._checked_at = min(now - self._checked_at, MAX_COUNTED_S), now
        self._enforce_limits(now, passed_s)
        self._hand_out()
        if self._needs_process(now):
            self._start_requested = False
            self._changed.release()
            try:
                self._start_process()
            finally:
                self._changed.acquire()
        elif self._is_busy:
            self._changed.wait(CHECK_INTERVAL_S)
        else:
            self._monitor_sleeps = True
            self._changed.wait(max(CHECK_INTERVAL_S, min(self._idle_s, threading.TIMEOUT_MAX)))
            self._monitor_sleeps, self._checked_at = False, time.monotonic()

    def _start_process(self) -> None:
        """Starts a process. Outside the lock. If that fails, every task fails."""
        slot = min({*range(1, len(self._processes) + 2)} - {process.slot for process in self._processes})
        try:
            process = start_process(slot, self._state_dir, self._memory_bytes)
        except TransientStoreError as error:
            with self._changed:
                self._fail_all(ChunkerLostError(str(error)))
            return
        with self._changed:
            try:
                threading.Thread(target=self._receive, args=(process,), name="chunking-replies", daemon=True).start()
            except RuntimeError as error:
                process.child.reap()
                self._fail_all(ChunkerLostError(f"the chunking process could not be started: {error}"))
                return
            self._processes.append(process)
            if self._closed:
                process.kill(_nothing)

    # A thread for each process ----------------------------------------------------------------------------

    def _receive(self, process: ChunkingProcess) -> None:
        """Receives the results of a process until it is gone, then decides what that means for its task."""
        while True:
            try:
                answer = process.child.receive()
            except Exception:
                break  # it has ended, or sent a result that cannot be read: in both cases it is replaced
            with self._changed:
                if not self._accept(process, answer):
                    break
        with self._changed:
            process.is_gone = True
        process.child.reap(0.0 if process.on_killed else GRACEFUL_EXIT_S)
        death = ""
        with self._changed:
            self._processes.remove(process)
            if process.on_killed is not None:
                process.on_killed()
            else:
                death = process.child.exit_reason()
                self._blame(process, death)
            self._hand_out()
            self._changed.notify_all()
        if death:
            self._on_death(death)

    def _accept(self, process: ChunkingProcess, answer: Answer) -> bool:
        """Handles a result. Returns False if the process has to be replaced."""
        if process.on_killed is not None:
            return True  # it was killed, and its end will follow
        task = process.finish(time.monotonic())
        if answer.number is None:
            process.is_ready, self._failed_starts = True, 0
        elif task is not None:
            if answer.is_memory:
                process.on_killed = partial(self._killed_its_process, task, "ran out of memory")
                return False
            if answer.error:
                self._conclude(task, task.trial.raised(answer.error))
            else:
                self._conclude(task, task.trial.cut(answer.cut()))
        self._hand_out()
        return True

    def _blame(self, process: ChunkingProcess, how: str) -> None:
        """Decides whether the task of a process is to blame that has died without being killed by us."""
        task = process.task
        if not process.is_ready:
            self._start_failed(how)
        elif task is not None and has_crashed(process.child.returncode):
            self._killed_its_process(task, how)
        elif task is not None:
            self._lost_its_process(task, how)
