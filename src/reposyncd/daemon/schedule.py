"""What the engine does next. Pure: the clock, and what is known of the disk, are arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set
from typing import NamedTuple, Protocol

from reposyncd.daemon.kept import Kept
from reposyncd.model import Scope

TICK_S = 60.0
"""Between two looks at the clocks, which tell whether the machine was asleep."""

GIT_STRETCH = 4.0
"""The settle time is so many times longer while git is at work: it has more to write."""

STARVED_S = 10.0
"""A long job that other work was put before for so long has its turn."""

QUIET_S = 10.0
"""Without work before a checkpoint is thought of."""


class Errand(Protocol):
    """Something that the engine does now and then, between jobs."""

    due: float
    """when, on the monotonic clock"""

    def run(self) -> None:
        """Does it, and sets when it is due again."""

    def reconfigured(self) -> None:
        """There is another configuration: sets when it is due."""


class Bring(NamedTuple):
    """Bring a part of a tree, or all of it, up to date."""

    kept: Kept
    scope: Scope
    stretch: float
    """by how much its settle time was stretched"""


class Tidy(NamedTuple):
    """Make a checkpoint of the store, if it is worth one."""


class Wait(NamedTuple):
    """Nothing is due before then, on the monotonic clock."""

    until: float


class _Due(NamedTuple):
    rank: int
    since: float
    job: Bring


_SMALL, _WHOLE, _BULK = 0, 1, 2
"""Small work first, then looks at trees that are indexed already, then first indexes."""


class Schedule:
    """In this order: parts of trees; errands; looks at trees that were indexed before; first indexes; a checkpoint.

    A long job that is due is passed over for STARVED_S at the most, and then has one turn.
    """

    def __init__(self) -> None:
        self._passed_over: float | None = None
        """since when a long job that is due has been"""

    def choose(
        self,
        now: float,
        kept: Iterable[Kept],
        errands: Sequence[Errand],
        *,
        at_work: Set[str],
        may_go_on: Callable[[], float],
        quiet_since: float | None,
    ) -> Bring | Errand | Tidy | Wait:
        """What is due, or until when nothing is.

        `at_work` are the roots where git has more to write. `may_go_on` says when a first index may, at the earliest.
        `quiet_since`: since when there was no work; None if the store needs no checkpoint.
        """
        wake = now + TICK_S
        due: list[_Due] = []
        for each in kept:
            stretch = GIT_STRETCH if each.repo.root in at_work else 1.0
            when, scope = each.next(now, stretch)
            if when <= now:
                due.append(_Due(_rank(each, scope), when, Bring(each, scope, stretch)))
            else:
                wake = min(wake, when)
        due.sort(key=lambda each: each[:2])
        errand = min(errands, key=lambda each: each.due, default=None)
        large = next((each for each in due if each.rank > _SMALL), None)
        if not large or large is due[0]:
            self._passed_over = None
        elif self._passed_over is None:
            self._passed_over = now
        if errand and errand.due <= now and not (due and due[0].rank == _SMALL):
            return errand
        if large and self._passed_over is not None and now > self._passed_over + STARVED_S:
            due.insert(0, large)
            self._passed_over = None
        for rank, _, job in due:
            if rank < _BULK or (when := may_go_on()) <= now:
                return job
            wake = min(wake, when)
        if errand:
            wake = min(wake, errand.due)
        if quiet_since is not None and not due:
            if now - quiet_since >= QUIET_S:
                return Tidy()
            wake = min(wake, quiet_since + QUIET_S)
        return Wait(wake)


def _rank(kept: Kept, scope: Scope) -> int:
    if not scope.is_whole:
        return _SMALL
    return _WHOLE if kept.indexed or kept.syncs else _BULK
