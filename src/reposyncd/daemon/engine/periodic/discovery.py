"""Finds repositories below `discover.roots`, and adds them."""

from __future__ import annotations

import math
import os
from contextlib import suppress

from reposyncd.config import Config
from reposyncd.daemon.engine.periodic.timer import Timer
from reposyncd.daemon.engine.records import Records
from reposyncd.daemon.engine.schedule import max_delay_of
from reposyncd.daemon.engine.tracking import RepoTracking
from reposyncd.daemon.events import DISCOVERY, log_event
from reposyncd.errors import OverlapError, ReposyncError
from reposyncd.sync.repos import moved
from reposyncd.text import encodable
from reposyncd.tree.discover import discover
from reposyncd.tree.offlimits import OffLimits


class DiscoverRepos(Timer):
    """A `schedule.PeriodicTask`. Any thread may read `problems`."""

    def __init__(self, config: Config, *, records: Records, tracking: RepoTracking) -> None:
        super().__init__()
        self._records = records
        self._tracking = tracking
        self._problems: tuple[str, ...] = ()
        self.reconfigure(config)

    @property
    def problems(self) -> tuple[str, ...]:
        """What went wrong the last time, in words."""
        return self._problems

    @property
    def max_delay_s(self) -> float:
        """See `schedule.PeriodicTask`."""
        return max_delay_of(self._config.discover.interval)

    def reconfigure(self, config: Config) -> None:
        """Runs at once if `discover.roots` names a directory."""
        self._config = config
        self._problems = ()
        self.due_in(0 if config.discover.roots else math.inf)

    def run(self) -> None:
        """Adds new repositories. Does not add those that somebody has removed."""
        settings = self._config.discover
        self.due_in(settings.interval)
        off_limits = OffLimits.of(self._config.state_dir)
        # All of / may be searched, although it cannot be indexed.
        refusals = {root: off_limits.refusal(os.path.realpath(root)) for root in settings.roots if root != os.sep}
        refused = {root: why for root, why in refusals.items() if why}
        found = discover(
            [root for root in settings.roots if root not in refused],
            depth=settings.depth,
            excludes=settings.exclude,
            limit=settings.limit,
        )
        problems = [f"discover.roots: {why}" for why in refused.values()]
        problems += [encodable(f"{each.path}: {each.error}") for each in found.unreadable]
        if found.truncated:
            problems.append(
                f"there are more than {settings.limit:,} repositories, or too many directories, below discover.roots; "
                "the rest is left out. Raise discover.limit, or exclude some directories with discover.exclude"
            )
        declined = self._records.catalog.declined()
        known = {repo.root for repo in self._records.catalog.repos()}
        for root in found.found:
            if root not in known and root not in declined:
                try:
                    self._add(root)
                except ReposyncError as error:
                    problems.append(str(error))
        for problem in problems:
            if problem not in self._problems:
                log_event(DISCOVERY, reason=problem)
        self._problems = tuple(problems)

    def _add(self, root: str) -> None:
        catalog = self._records.catalog
        if moved(catalog, root):
            self._tracking.add(root, None)
            return
        with suppress(OverlapError):  # it is part of an indexed repository
            self._tracking.add(root, _name_for(root, {repo.name for repo in catalog.repos()}))


def _name_for(root: str, taken: set[str]) -> str:
    """A name that is not taken. If two repositories have the same name, the second gets its parent's name in front."""
    name = os.path.basename(root)
    if name in taken:
        name = f"{os.path.basename(os.path.dirname(root))}-{name}"
    number = 2
    while name in taken:
        name, number = f"{os.path.basename(root)}-{number}", number + 1
    return name
