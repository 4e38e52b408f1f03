"""Notices roots that have disappeared or been replaced without an event, for example after a lazy unmount."""

from __future__ import annotations

import time

from reposyncd.config import Config
from reposyncd.daemon.engine.periodic.timer import Timer
from reposyncd.daemon.engine.registry import RepoRegistry
from reposyncd.daemon.engine.schedule import max_delay_of
from reposyncd.store.manifest.catalog import Repo
from reposyncd.sync.repos import identity_of

ROOTS_S = 60.0
"""Time between two checks."""


class CheckRoots(Timer):
    """A `schedule.PeriodicTask`."""

    max_delay_s = max_delay_of(ROOTS_S)

    def __init__(self, registry: RepoRegistry) -> None:
        super().__init__(time.monotonic() + ROOTS_S)
        self._registry = registry

    def reconfigure(self, config: Config) -> None:
        """Nothing in the configuration matters here."""

    def run(self) -> None:
        """Requests a scan of each repository whose root is not the same directory as before."""
        self.due_in(ROOTS_S)
        for each in self._registry.named(None):
            if not each.is_missing and not each.repo.paused and not _is_there(each.repo):
                self._registry.hint(each.repo.root, "", True, time.monotonic())


def _is_there(repo: Repo) -> bool:
    try:
        return identity_of(repo.root) == repo.identity
    except OSError:
        return False
