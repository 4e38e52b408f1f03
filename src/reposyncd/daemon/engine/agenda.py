"""What the engine has to do, from everywhere that work comes from. `schedule` decides what goes first."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

from reposyncd.daemon.engine.activity import Activity
from reposyncd.daemon.engine.inbox import Command, Inbox
from reposyncd.daemon.engine.lifecycle import Lifecycle
from reposyncd.daemon.engine.registry import RepoRegistry
from reposyncd.daemon.engine.schedule import CheckpointDue, PeriodicTask, Schedule, Wait, overdue
from reposyncd.daemon.engine.snapshots import NextSync
from reposyncd.daemon.resources import ResourceGate


class Agenda:
    """The commands, the repositories, the periodic tasks and the store. For the engine's thread.

    `is_git_busy` says whether git is at work in a root; it reads the disk.
    """

    def __init__(
        self,
        tasks: Sequence[PeriodicTask],
        *,
        lifecycle: Lifecycle,
        inbox: Inbox,
        registry: RepoRegistry,
        gate: ResourceGate,
        activity: Activity,
        is_git_busy: Callable[[str], bool],
    ) -> None:
        self._tasks = tasks
        self._lifecycle = lifecycle
        self._inbox = inbox
        self._registry = registry
        self._gate = gate
        self._activity = activity
        self._is_git_busy = is_git_busy
        self._schedule = Schedule()

    def next(self) -> Command | NextSync | PeriodicTask | CheckpointDue | Wait:
        """What is next, or until when nothing is due."""
        if command := self._inbox.take():
            return command
        at_work = self._roots_at_work()
        now = time.monotonic()
        return self._schedule.choose(
            now,
            self._registry.next_syncs(now, at_work),
            self._tasks,
            may_index_from=lambda: self._gate.allowed_from(now),
            quiet_since=self._activity.quiet_since,
        )

    def _roots_at_work(self) -> set[str]:
        """Where a part of a tree is due, and git is at work: that part settles for longer."""
        now = time.monotonic()
        due = [
            each.root
            for each in self._registry.next_syncs(now)
            if -math.inf < each.when <= now and not each.scope.is_whole
        ]
        return {root for root in due if self._is_git_busy(root)}

    # What is under way may have to make way ---------------------------------------------------------------

    @property
    def is_stopping(self) -> bool:
        """Whether the engine is to stop."""
        return self._lifecycle.is_stopping

    @property
    def has_commands(self) -> bool:
        """Whether somebody asked for something."""
        return bool(self._inbox)

    def goes_before(self, repo: str, now: float) -> bool:
        """Whether something is due that goes before the long sync of this repository."""
        return self.has_commands or bool(overdue(self._tasks, now)) or self._registry.is_part_due(now, repo)

    def is_anything_due(self) -> bool:
        """Whether there is something to do that goes before a checkpoint."""
        now = time.monotonic()
        return self.is_stopping or self.has_commands or any(each.when <= now for each in self._registry.next_syncs(now))
