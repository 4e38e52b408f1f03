"""What the engine does next. Pure: the clock, and what is known of the disk, are arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set
from typing import NamedTuple, Protocol

from reposyncd.daemon.engine.repo_state import RepoState
from reposyncd.model import Scope

TICK_S = 60.0
"""Between two looks at the clocks, which tell whether the machine was asleep."""

GIT_STRETCH = 4.0
"""The settle time is so many times longer while git is at work: it has more to write."""

STARVED_S = 10.0
"""A long job that other work was put before for so long has its turn."""

QUIET_S = 10.0
"""Without work before a checkpoint is thought of."""

OVERDUE_SHARE = 0.1
"""By this share of its period a periodic task may be late because parts of trees go first. Then it goes before them."""


def patience_of(period_s: float) -> float:
    """How long a periodic task may be passed over: no longer than a long job."""
    return min(OVERDUE_SHARE * period_s, STARVED_S)


class PeriodicTask(Protocol):
    """Something that the engine does now and then, between jobs."""

    due: float
    """when, on the monotonic clock"""

    @property
    def patience_s(self) -> float:
        """How long it may be passed over from then on, for parts of trees and for long jobs."""

    def run(self) -> None:
        """Does it, or a slice of it if there is more to do, and sets when it is due again. A part of a tree waits for
        as long as one run takes."""

    def reconfigured(self) -> None:
        """There is another configuration: sets when it is due."""


class SyncJob(NamedTuple):
    """SyncJob a part of a tree, or all of it, up to date."""

    kept: RepoState
    scope: Scope
    stretch: float
    """by how much its settle time was stretched"""


class CheckpointJob(NamedTuple):
    """Make a checkpoint of the store, if it is worth one."""


class Wait(NamedTuple):
    """Nothing is due before then, on the monotonic clock."""

    until: float


class _Due(NamedTuple):
    rank: int
    since: float
    job: SyncJob

    @property
    def root(self) -> str:
        return self.job.kept.repo.root


_SMALL, _WHOLE, _BULK = 0, 1, 2
"""Small work first, then looks at trees that are indexed already, then first indexes."""


def overdue(periodic_tasks: Iterable[PeriodicTask], now: float) -> list[PeriodicTask]:
    """Those that were passed over for too long."""
    return [each for each in periodic_tasks if each.due + each.patience_s <= now]


class Schedule:
    """In this order: parts of trees; periodic tasks; looks at trees that were indexed before; first indexes; a
    checkpoint.

    A long job that is due is passed over for STARVED_S at the most, and then has one turn. So has a task that is
    overdue. Whatever is put before a part of a tree by that is put before it once: each part that was due has its turn
    before the next overdue task has.
    """

    def __init__(self) -> None:
        self._passed_over: float | None = None
        """since when a long job that is due has been"""
        self._owed: set[str] = set()
        """roots of the trees with parts that an task was put before, and that have not had their turn since"""

    def choose(
        self,
        now: float,
        kept: Iterable[RepoState],
        periodic_tasks: Sequence[PeriodicTask],
        *,
        at_work: Set[str],
        may_go_on: Callable[[], float],
        quiet_since: float | None,
    ) -> SyncJob | PeriodicTask | CheckpointJob | Wait:
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
                due.append(_Due(_rank(each, scope), when, SyncJob(each, scope, stretch)))
            else:
                wake = min(wake, when)
        small = {each.root for each in due if each.rank == _SMALL}
        self._owed &= small
        due.sort(key=lambda each: (each.rank, each.root not in self._owed, each.since))
        task = self._overdue_task(periodic_tasks, now, is_pressed=bool(small))
        large = next((each for each in due if each.rank > _SMALL), None)
        if not large or (large is due[0] and not task):
            self._passed_over = None
        elif self._passed_over is None:
            self._passed_over = now
        if large and self._passed_over is not None and now > self._passed_over + STARVED_S:
            due.insert(0, large)
            self._passed_over = None
        elif task:
            self._owed = small
            return task
        for rank, _, job in due:
            if rank < _BULK or (when := may_go_on()) <= now:
                self._owed.discard(job.kept.repo.root)
                return job
            wake = min(wake, when)
        wake = min(wake, *(each.due for each in periodic_tasks)) if periodic_tasks else wake
        if quiet_since is not None and not due:
            if now - quiet_since >= QUIET_S:
                return CheckpointJob()
            wake = min(wake, quiet_since + QUIET_S)
        return Wait(wake)

    def _overdue_task(self, tasks: Sequence[PeriodicTask], now: float, *, is_pressed: bool) -> PeriodicTask | None:
        """The task that goes before all but a starved long job; `is_pressed`: parts of trees are due."""
        due = [each for each in tasks if each.due <= now]
        if is_pressed:
            due = [] if self._owed else overdue(due, now)
        return min(due, key=lambda each: each.due + each.patience_s, default=None)


def _rank(kept: RepoState, scope: Scope) -> int:
    if not scope.is_whole:
        return _SMALL
    return _WHOLE if kept.indexed or kept.syncs else _BULK
