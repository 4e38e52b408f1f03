"""One chunking process, as its parent sees it: its task, the processor time it has used, and what ends it."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from reposyncd.child_process import ChildProcess
from reposyncd.chunking.tasks import ChunkingTask
from reposyncd.chunking.worker import File

HANG_S = 30.0
"""A process that has something to do, and has used no processor time for so long, hangs."""


@dataclass(eq=False, slots=True)
class ChunkingProcess:
    """A running child with at most one task. Not thread-safe: the caller holds a lock."""

    slot: int
    """the lowest number that no other running process has; part of the name of its log file"""
    child: ChildProcess
    since: float
    """when it began what it does now (starting, waiting, or a task), monotonic seconds"""
    is_ready: bool = False
    """whether it has started and takes tasks"""
    task: ChunkingTask | None = None
    on_killed: Callable[[], None] | None = None
    """if we have killed it: what to do when it is gone"""
    is_gone: bool = False
    _cpu_before_s: float = 0.0
    """processor time that it had used when the task began"""
    _cpu_s: float = 0.0
    """processor time that it had used at the last `measure`"""
    _idle_cpu_s: float = 0.0
    """how long its processor time has not changed, seconds"""

    @property
    def is_ending(self) -> bool:
        """Whether it is gone, or killed and about to be."""
        return self.is_gone or self.on_killed is not None

    @property
    def is_free(self) -> bool:
        """Whether it can take a task."""
        return self.is_ready and self.task is None and not self.is_ending

    @property
    def task_cpu_s(self) -> float:
        """Processor time that the task has used, as of the last `measure`."""
        return self._cpu_s - self._cpu_before_s

    @property
    def hangs(self) -> bool:
        """Whether it has used no processor time for too long, as of the last `measure`."""
        return self._idle_cpu_s > HANG_S

    def give(self, task: ChunkingTask, now: float) -> None:
        """Hands it a task. Raises OSError if it has just died."""
        self._cpu_s = self._cpu_before_s = self.child.cpu_s()
        self._idle_cpu_s = 0.0
        self.task, self.since = task, now
        how = "plain" if task.trial.as_plain_lines else "parse"
        path, _, allow_secrets = task.key
        self.child.send((task.number, how, File(path, task.data, allow_secrets)))

    def finish(self, now: float) -> ChunkingTask | None:
        """It has answered, and is free again. Returns the task that it had."""
        task, self.task, self.since = self.task, None, now
        return task

    def measure(self, passed_s: float) -> None:
        """Reads its processor time, `passed_s` after the last measurement."""
        with suppress(OSError):  # it has just died
            cpu_s = self.child.cpu_s()
            self._idle_cpu_s = self._idle_cpu_s + passed_s if cpu_s == self._cpu_s else 0.0
            self._cpu_s = cpu_s

    def kill(self, on_killed: Callable[[], None]) -> None:
        """Kills it, and remembers what to do when it is gone. Does nothing if it is ending already."""
        if not self.is_ending:
            self.on_killed = on_killed
            self.child.kill()


def start_process(slot: int, state_dir: str, memory_bytes: int) -> ChunkingProcess:
    """Starts a chunking process that may use so much memory. Raises TransientStoreError if it cannot be started."""
    child = ChildProcess(
        "chunk", "the chunking process", state_dir, f"chunking-process-{slot}.log", [str(memory_bytes)]
    )
    return ChunkingProcess(slot, child, since=time.monotonic())
