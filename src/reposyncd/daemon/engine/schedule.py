"""Decides what the engine does next. Pure: the clock, and what is known about the disk, are arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

from reposyncd.config import Config
from reposyncd.daemon.engine.snapshots import NextSync

TICK_S = 60.0
"""The engine wakes up at least this often, to check whether the machine was suspended."""

GIT_STRETCH = 4.0
"""Factor for the settle time while git is changing a tree: it will probably write more."""

STARVED_S = 10.0
"""A long sync that is due gets its turn after other work went first for this time."""

QUIET_S = 10.0
"""A checkpoint is considered after this time without work."""

OVERDUE_SHARE = 0.1
"""A periodic task makes way for parts of trees for this share of its period. Then it goes first."""


def max_delay_of(period_s: float) -> float:
    """How long a periodic task makes way for other work: at most as long as a long sync does."""
    return min(OVERDUE_SHARE * period_s, STARVED_S)


class PeriodicTask(Protocol):
    """Something that the engine does periodically, between jobs. All of it runs on the engine's thread."""

    @property
    def due(self) -> float:
        """When it is due, on the monotonic clock."""

    @property
    def max_delay_s(self) -> float:
        """For how long after that it makes way for parts of trees and for long syncs."""

    def run(self) -> None:
        """Does the task, or a slice of it, and sets `due`. Parts of trees wait in the meantime."""

    def postpone(self, until: float) -> None:
        """Called after an unexpected failure: the task is not due before this time."""

    def reconfigure(self, config: Config) -> None:
        """Uses another configuration, and sets `due`."""


class CheckpointDue(NamedTuple):
    """A checkpoint of the store is due, if the store needs one."""


class Wait(NamedTuple):
    """Nothing is due before this time, on the monotonic clock."""

    until: float


class _Due(NamedTuple):
    rank: int
    sync: NextSync


_PART, _SCAN, _FIRST_INDEX = 0, 1, 2
"""Parts of trees go first, then full scans of trees that are indexed already, then first indexes."""


def overdue(periodic_tasks: Iterable[PeriodicTask], now: float) -> list[PeriodicTask]:
    """The tasks that have made way for long enough."""
    return [each for each in periodic_tasks if each.due + each.max_delay_s <= now]


class Schedule:
    """The order: parts of trees; periodic tasks; full scans of indexed trees; first indexes; a checkpoint.

    A full scan or first index that is due makes way for at most STARVED_S, and then gets one turn. A task that is
    overdue goes before parts of trees, but no part makes way for two tasks in a row.
    """

    def __init__(self) -> None:
        self._passed_over_since: float | None = None
        """since when a long sync that is due has made way"""
        self._owed: set[str] = set()
        """roots of the trees whose parts made way for a task, and have not had their turn since"""

    def choose(
        self,
        now: float,
        syncs: Iterable[NextSync],
        periodic_tasks: Sequence[PeriodicTask],
        *,
        may_index_from: Callable[[], float],
        quiet_since: float | None,
    ) -> NextSync | PeriodicTask | CheckpointDue | Wait:
        """What is due now, or until when nothing is due.

        `syncs` has the next sync of each repository. `may_index_from` returns from when a first index may run.
        `quiet_since` is since when there has been no work; None if the store needs no checkpoint.
        """
        wake = now + TICK_S
        due: list[_Due] = []
        for each in syncs:
            if each.when <= now:
                due.append(_Due(_rank(each), each))
            else:
                wake = min(wake, each.when)
        parts = {each.sync.root for each in due if each.rank == _PART}
        self._owed &= parts
        due.sort(key=lambda each: (each.rank, each.sync.root not in self._owed, each.sync.when))
        task = self._overdue_task(periodic_tasks, now, are_parts_due=bool(parts))
        large = next((each for each in due if each.rank > _PART), None)
        if not large or (large is due[0] and not task):
            self._passed_over_since = None
        elif self._passed_over_since is None:
            self._passed_over_since = now
        if large and self._passed_over_since is not None and now > self._passed_over_since + STARVED_S:
            due.insert(0, large)
            self._passed_over_since = None
        elif task:
            self._owed = parts
            return task
        for rank, sync in due:
            if rank < _FIRST_INDEX or (when := may_index_from()) <= now:
                self._owed.discard(sync.root)
                return sync
            wake = min(wake, when)
        wake = min([wake, *(each.due for each in periodic_tasks)])
        if quiet_since is not None and not due:
            if now - quiet_since >= QUIET_S:
                return CheckpointDue()
            wake = min(wake, quiet_since + QUIET_S)
        return Wait(wake)

    def _overdue_task(self, tasks: Sequence[PeriodicTask], now: float, *, are_parts_due: bool) -> PeriodicTask | None:
        """The task that goes first, unless a long sync has waited for too long."""
        due = [each for each in tasks if each.due <= now]
        if are_parts_due:
            due = [] if self._owed else overdue(due, now)
        return min(due, key=lambda each: each.due + each.max_delay_s, default=None)


def _rank(sync: NextSync) -> int:
    if not sync.scope.is_whole:
        return _PART
    return _FIRST_INDEX if sync.is_first_index else _SCAN
