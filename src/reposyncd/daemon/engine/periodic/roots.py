"""Notices roots that are gone, or are other directories, without an event: for example after a lazy unmount."""

from __future__ import annotations

import time

from reposyncd.config import Config
from reposyncd.daemon.engine.periodic.timer import Timer
from reposyncd.daemon.engine.registry import RepoRegistry
from reposyncd.daemon.engine.schedule import patience_of
from reposyncd.store.manifest.catalog import Repo
from reposyncd.sync.repos import identity_of

ROOTS_S = 60.0
"""Time between two checks."""


class CheckRoots(Timer):
    """A `schedule.PeriodicTask`."""

    patience_s = patience_of(ROOTS_S)

    def __init__(self, registry: RepoRegistry) -> None:
        super().__init__(time.monotonic() + ROOTS_S)
        self._registry = registry

    def reconfigure(self, config: Config) -> None:
        """The configuration says nothing about it."""

    def run(self) -> None:
        """Has a repository scanned if its root is not the directory that it was."""
        self.due_in(ROOTS_S)
        for each in self._registry.named(None):
            if not each.is_missing and not each.repo.paused and not _is_there(each.repo):
                self._registry.hint(each.repo.root, "", True, time.monotonic())


def _is_there(repo: Repo) -> bool:
    try:
        return identity_of(repo.root) == repo.identity
    except OSError:
        return False
