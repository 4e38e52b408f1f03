"""Whole processes, timed and weighed."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SAMPLE_S = 0.05


@dataclass(frozen=True)
class Cost:
    """seconds of wall time; bytes of memory at the peak of the process and all below it together."""

    wall_s: float
    peak_bytes: int


def reposyncd(*arguments: str) -> list[str]:
    """The command line of the reposyncd beside this interpreter."""
    return [str(Path(sys.executable).with_name("reposyncd")), *arguments]


def run(command: Sequence[str], cwd: str | None = None, *, weigh: bool = False) -> Cost:
    """Runs the command, which must succeed; its output is not shown, and its errors only if it fails."""
    environ = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    started = time.perf_counter()
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(command, cwd=cwd, env=environ, stdout=subprocess.DEVNULL, stderr=errors) as process,
    ):
        peak = Peak(process.pid) if weigh else None
        if process.wait():
            errors.seek(0)
            raise SystemExit(f"{command[0]} failed with {process.returncode}\n{errors.read().decode(errors='replace')}")
        wall = time.perf_counter() - started
    return Cost(wall, peak.stop() if peak else 0)


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


class Peak:
    """Samples the proportional memory of a process and all below it, so that shared pages count once."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._peak = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def stop(self) -> int:
        """The most that was seen, bytes."""
        self._stop.set()
        self._thread.join()
        return self._peak

    def _watch(self) -> None:
        while not self._stop.wait(SAMPLE_S):
            self._peak = max(self._peak, sum(map(_pss, tree(self._pid))))


def tree(pid: int) -> list[int]:
    """The process, and all below it."""
    found = [pid]
    for parent in found:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += map(int, children.read_text().split())
            except OSError:
                continue
    return found


def _pss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
