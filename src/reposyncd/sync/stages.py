"""Measures the stages of a sync, and reports them to an observer: once for each batch, not for each file."""

from __future__ import annotations

import time
from collections.abc import Callable

from reposyncd.ports import Observer, Stage
from reposyncd.tree.scan import Snapshot


class StageReport:
    """Adds up the durations of the stages of one sync until they are reported. For one thread."""

    def __init__(self, observer: Observer, repo: str) -> None:
        self._observer = observer
        self._repo = repo
        self._sums: dict[Stage, tuple[float, int]] = {}

    def add(self, stage: Stage, duration_s: float, count: int) -> None:
        """Adds a part of a stage, with its duration and the number of its items; see `ports.Observer.stage`."""
        if duration_s or count:
            before_s, before = self._sums.get(stage, (0.0, 0))
            self._sums[stage] = before_s + duration_s, before + count

    def send(self) -> None:
        """Reports what was added since the last call. The caller holds no lock except the state lock."""
        sums, self._sums = self._sums, {}
        for stage, (duration_s, count) in sums.items():
            self._observer.stage(self._repo, stage, duration_s, count)


def observed_scan(observer: Observer, repo: str, scan: Callable[[], Snapshot]) -> Snapshot:
    """Runs a scan and reports its duration. A failed scan is not reported."""
    began = time.perf_counter()
    snapshot = scan()
    observer.stage(repo, Stage.SCAN, time.perf_counter() - began, len(snapshot.unchanged) + len(snapshot.changed))
    return snapshot
