"""Deletes the collections of removed repositories."""

from __future__ import annotations

import math
import time

from reposyncd.app.operations import drop_removed
from reposyncd.app.workspace import Workspace
from reposyncd.config import Config
from reposyncd.daemon.engine.activity import Activity
from reposyncd.daemon.engine.periodic.timer import Timer
from reposyncd.daemon.engine.repo_state import RETRY_S
from reposyncd.daemon.engine.schedule import max_delay_of
from reposyncd.errors import StoreError


class DropRemoved(Timer):
    """A `schedule.PeriodicTask`. Runs at the start, for what was removed before a crash, and when it is requested."""

    max_delay_s = max_delay_of(RETRY_S)

    def __init__(self, workspace: Workspace, activity: Activity) -> None:
        super().__init__(time.monotonic())
        self._workspace = workspace
        self._activity = activity

    def request(self) -> None:
        """There is something to delete."""
        self.due_in(0)

    def reconfigure(self, config: Config) -> None:
        """Nothing in the configuration matters here."""

    def run(self) -> None:
        """Deletes one collection. Chroma cannot do that in parts: it takes 3 s for 20,000 chunks."""
        self.due_in(math.inf)
        try:
            if drop_removed(self._workspace):
                self._activity.store_changed()
                self.due_in(0)
        except StoreError:
            self.due_in(RETRY_S)
            raise
