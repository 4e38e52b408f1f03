"""One `ports.Observer` for several."""

from __future__ import annotations

from collections.abc import Sequence

from reposyncd.model import Transition
from reposyncd.ports import Observer, Stage


class Observers:
    """A `ports.Observer` that passes everything on to several observers, in order."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = tuple(observers)

    def stage(self, repo: str, stage: Stage, duration_s: float, count: int) -> None:
        """See `ports.Observer`."""
        for each in self._observers:
            each.stage(repo, stage, duration_s, count)

    def transition(self, transition: Transition) -> None:
        """See `ports.Observer`."""
        for each in self._observers:
            each.transition(transition)
