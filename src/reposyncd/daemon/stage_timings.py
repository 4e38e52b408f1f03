"""How much time the stages of syncing have taken since the service started."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import NamedTuple

from reposyncd.model import Transition
from reposyncd.ports import Stage


class StageTotal(NamedTuple):
    """The totals of one stage in one repository."""

    seconds: float
    items: int
    """directories (scan), files (read), chunks (all others)"""


_NOTHING = StageTotal(0.0, 0)


class StageTimings:
    """An `Observer` that adds up the durations of stages. It ignores transitions. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._totals: dict[tuple[str, Stage], StageTotal] = {}

    def stage(self, repo: str, stage: Stage, duration_s: float, count: int) -> None:
        """See `Observer`."""
        with self._lock:
            seconds, items = self._totals.get((repo, stage), _NOTHING)
            self._totals[repo, stage] = StageTotal(seconds + duration_s, items + count)

    def transition(self, transition: Transition) -> None:
        """See `Observer`."""

    def totals(self) -> Mapping[tuple[str, Stage], StageTotal]:
        """The totals by repository and stage, as they are now."""
        with self._lock:
            return dict(self._totals)
