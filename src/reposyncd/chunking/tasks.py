"""The files to be cut: which one is next, and which results to keep. No I/O, no threads, no clock.

There are two lanes. The fast lane cuts one file after another, in one process. A file that is *slow* goes to the slow
lane, which has a limited number of processes; while all of them are busy, the file waits there.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from reposyncd.chunking.verdict import Trial
from reposyncd.errors import ChunkerLostError, ReposyncError
from reposyncd.model import Cut

MAX_RESULT_BYTES = 16 << 20
"""Total size of the files whose results are kept although nobody waits for them any more."""

MAX_KNOWN_SLOW = 1000
"""How many slow files are remembered, at about 100 bytes each. They go to the slow lane at once the next time."""

Key = tuple[str, str, bool]
"""(path, digest, whether the file may hold secrets)"""


@dataclass(eq=False, slots=True)
class ChunkingTask:
    """One file to be cut."""

    number: int
    """unique; the chunking process repeats it in its answer"""
    key: Key
    data: bytes
    trial: Trial
    future: Future[Cut] = field(default_factory=Future)
    not_before: float = -math.inf
    """monotonic seconds; the task waits until then"""
    is_wanted: bool = True
    """whether somebody waits for the result"""
    is_slow: bool = False

    @property
    def path(self) -> str:
        """The path of the file."""
        return self.key[0]


class TaskQueue:
    """The tasks that wait or are being cut, and the results that nobody has collected yet.

    `slow_at_most` is how many slow tasks may be cut at the same time. Not thread-safe: the caller holds a lock.
    """

    def __init__(self, slow_at_most: int) -> None:
        self._slow_at_most = slow_at_most
        self._last_number = 0
        self._tasks: dict[Key, ChunkingTask] = {}
        self._fast: deque[ChunkingTask] = deque()
        self._slow: deque[ChunkingTask] = deque()
        self._known_slow: dict[Key, None] = {}
        """an ordered set"""
        self._result_bytes = 0
        """size of the files whose results are kept"""

    @property
    def has_waiting(self) -> bool:
        """Whether a task waits in either lane."""
        return bool(self._fast or self._slow)

    def find(self, key: Key) -> ChunkingTask | None:
        """The task of this key, if it waits, is being cut, or its result is kept. A result is handed out once."""
        task = self._tasks.get(key)
        if task is not None:
            if task.future.done():
                self._drop_result(task)
            task.is_wanted = True
        return task

    def add(self, key: Key, data: bytes) -> ChunkingTask:
        """A new task, which waits in its lane."""
        self._last_number += 1
        task = ChunkingTask(self._last_number, key, data, Trial(len(data)), is_slow=key in self._known_slow)
        self._tasks[key] = task
        self.put(task)
        return task

    def put(self, task: ChunkingTask, *, first: bool = False) -> None:
        """Lets a task wait in its lane again: at the end, or as the first one. Does nothing if the task has failed."""
        if task.future.done():
            return
        lane = self._slow if task.is_slow else self._fast
        if first:
            lane.appendleft(task)
        else:
            lane.append(task)

    def take(self, running: Sequence[ChunkingTask], now: float) -> ChunkingTask | None:
        """The task that a free process cuts next, beside those that are `running`; None if there is none."""
        if self._fast and all(task.is_slow for task in running):
            return self._fast.popleft()
        if self._has_slow_slot(running):
            for task in self._slow:
                if task.not_before <= now:
                    self._slow.remove(task)
                    return task
        return None

    def needs_another_process(self, running: Sequence[ChunkingTask], now: float) -> bool:
        """Whether one more process is useful, if all that there are have a task."""
        if self._has_slow_slot(running) and any(task.not_before <= now for task in self._slow):
            return True
        # If all running tasks are slow, the next fast one must not wait until a process has started.
        return all(task.is_slow for task in running) and bool(self._fast or running)

    def demote(self, task: ChunkingTask, running: Sequence[ChunkingTask]) -> bool:
        """Moves a running task that takes long to the slow lane, unless that is full and no other task waits behind it.

        True if the slow lane is full: the caller must stop the task, and `put` it back.
        """
        is_full = not self._has_slow_slot(running)
        if is_full and not self._fast:
            return False
        self._mark_slow(task)
        return is_full

    def conclude(self, task: ChunkingTask, found: Cut | ReposyncError | None, now: float) -> None:
        """Stores what became of a task. None means that it has to be cut again. Does nothing if the task has failed."""
        if task.future.done():
            return
        if found is None:
            self._mark_slow(task)
            task.not_before = now + task.trial.wait_s
            self.put(task, first=True)
            return
        if isinstance(found, ReposyncError):
            task.future.set_exception(found)
        else:
            task.future.set_result(found)
        if task.is_wanted:
            self._tasks.pop(task.key, None)
        else:
            self._keep_result(task)
        task.data = b""

    def release(self) -> None:
        """Nobody waits for any task any more. Forgets the tasks that have not been tried yet."""
        for lane in (self._fast, self._slow):
            for task in [each for each in lane if not each.trial.has_begun]:
                lane.remove(task)
                del self._tasks[task.key]
        for task in self._tasks.values():
            task.is_wanted = False

    def fail_all(self, error: ChunkerLostError) -> None:
        """Every task fails with this error, and every result is forgotten."""
        unfinished = [task for task in self._tasks.values() if not task.future.done()]
        self._fast.clear()
        self._slow.clear()
        self._tasks.clear()
        self._result_bytes = 0
        for task in unfinished:
            task.future.set_exception(error)

    def _has_slow_slot(self, running: Sequence[ChunkingTask]) -> bool:
        return sum(task.is_slow for task in running) < self._slow_at_most

    def _mark_slow(self, task: ChunkingTask) -> None:
        task.is_slow = True
        self._known_slow[task.key] = None
        if len(self._known_slow) > MAX_KNOWN_SLOW:
            del self._known_slow[next(iter(self._known_slow))]

    def _keep_result(self, task: ChunkingTask) -> None:
        """Keeps a result until somebody asks for it. The oldest results make room."""
        self._tasks[task.key] = self._tasks.pop(task.key)
        self._result_bytes += task.trial.size
        for other in [each for each in self._tasks.values() if each.future.done()]:
            if self._result_bytes <= MAX_RESULT_BYTES:
                return
            self._drop_result(other)

    def _drop_result(self, task: ChunkingTask) -> None:
        del self._tasks[task.key]
        self._result_bytes -= task.trial.size
