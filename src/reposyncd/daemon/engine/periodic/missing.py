"""Counts how long roots have been missing, and deletes the index of those that have been missing for too long."""

from __future__ import annotations

import time

from reposyncd.config import Config
from reposyncd.daemon.engine.periodic.timer import Timer
from reposyncd.daemon.engine.records import Records
from reposyncd.daemon.engine.registry import RepoRegistry
from reposyncd.daemon.engine.schedule import max_delay_of
from reposyncd.daemon.engine.snapshots import RepoSnapshot
from reposyncd.daemon.engine.tracking import RepoTracking
from reposyncd.store.manifest.catalog import Repo

DAY_S = 86_400.0

COUNT_S = 600.0
"""Time between two counts. Each count is recorded."""


class CountMissing(Timer):
    """A `schedule.PeriodicTask`. Counts only the time that the service runs, with a clock that nobody can set."""

    max_delay_s = max_delay_of(COUNT_S)

    def __init__(self, config: Config, *, records: Records, registry: RepoRegistry, tracking: RepoTracking) -> None:
        super().__init__(time.monotonic() + COUNT_S)
        self._config = config
        self._records = records
        self._registry = registry
        self._tracking = tracking

    def reconfigure(self, config: Config) -> None:
        """The new limit applies from the next run."""
        self._config = config

    def run(self) -> None:
        """Counts, and removes what has been missing for longer than `watch.forget_after`."""
        self.due_in(COUNT_S)
        limit_s = self._config.watch.forget_after * DAY_S
        for each in self._registry.named(None):
            if each.is_missing and not each.repo.paused:
                repo = self._count(each)
                if limit_s and repo.missing_s > limit_s:
                    self._tracking.remove(repo.name, decline=False)

    def _count(self, missing: RepoSnapshot) -> Repo:
        elapsed_s = self._registry.change(missing.name, lambda state: state.count_missing(time.monotonic()))
        repo = self._records.catalog.set_missing(missing.repo, missing.repo.missing_s + elapsed_s)
        self._registry.change(missing.name, lambda state: state.record(repo=repo))
        return repo
