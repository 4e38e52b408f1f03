"""Which repositories are kept: added, removed, paused and resumed by somebody, discovered, or gone for too long.

Everything here is done by the engine's thread.
"""

from __future__ import annotations

import math
import os
import time
from contextlib import suppress
from typing import Any

from reposyncd.daemon.engine.jobs import RETRY_S
from reposyncd.daemon.engine.loop import Engine
from reposyncd.daemon.engine.repo_state import Coverage, RepoState
from reposyncd.daemon.engine.schedule import patience_of
from reposyncd.daemon.events import ADDED, DISCOVERY, PAUSED, REMOVED, RESUMED, say
from reposyncd.errors import OverlapError, ReposyncError, StoreError
from reposyncd.store.manifest.catalog import Repo
from reposyncd.sync.repos import add, find, identity_of, moved, named, root_of
from reposyncd.text import encodable
from reposyncd.tree.discover import discover
from reposyncd.tree.offlimits import OffLimits

DAY_S = 86_400.0

ROOTS_S = 60.0
"""Between two looks at whether every root is still the directory that it was."""

COUNT_S = 600.0
"""Between two times that it is put on record for how long a root has been missing."""


class RepoRegistry:
    """The repositories of an engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.removed = Removed(engine)

    def add(self, path: str, name: str | None) -> dict[str, Any]:
        """Keeps the tree at `path`; one that is kept already stays as it is."""
        kept = self.kept(path, name)
        return {"name": kept.repo.name, "root": kept.repo.root}

    def kept(self, path: str, name: str | None) -> RepoState:
        """The repository at `path`, kept from now on if it was not."""
        catalog = self._engine.catalog
        root = root_of(path, self._engine.config.state_dir)
        repo = find(catalog, root, name)
        if repo is None:
            before = {each.id: each for each in catalog.repos()}
            repo = add(catalog, root, name)
            if repo.id in before:  # it was moved here
                self._engine.untrack(self._engine.kept[repo.name])
        if repo.name in self._engine.kept:
            return self._engine.kept[repo.name]
        say(ADDED, repo=repo.name, path=repo.root)
        return self._engine.keep(repo)

    def remove(self, name: str, *, decline: bool = True) -> dict[str, Any]:
        """Keeps the repo no longer, and drops its index."""
        [repo] = named(self._engine.catalog, name)
        if repo.name in self._engine.kept:
            self._engine.untrack(self._engine.kept[repo.name])
        self._engine.catalog.remove(repo, decline=decline)
        self.removed.due = time.monotonic()
        say(REMOVED, repo=repo.name, path=repo.root)
        return {"name": repo.name, "root": repo.root}

    def set_paused(self, name: str | None, paused: bool) -> dict[str, Any]:
        """Leaves a repo (None: all) as it is, or takes it up again."""
        repos = named(self._engine.catalog, name)
        for repo in repos:
            kept = self._engine.kept.get(repo.name) or self._engine.keep(repo)
            with self._engine.changed:
                kept.repo = self._engine.catalog.set_paused(repo, paused)
                kept.forget_dirty()
                kept.ready, kept.behind = False, True
                kept.missing, kept.failure = False, ""  # whether it is will be seen when it is looked at
                kept.whole_due = math.inf if paused else time.monotonic()
                if paused:
                    kept.coverage = Coverage()
            say(PAUSED if paused else RESUMED, repo=repo.name, path=repo.root)
            if paused:
                self._engine.watching.drop(repo.root)
        return {"repos": [repo.name for repo in repos]}


class Removed:
    """Drops the collections of repositories that were removed. A `schedule.PeriodicTask`."""

    patience_s = patience_of(RETRY_S)

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.due = time.monotonic()  # those of before a crash

    def reconfigured(self) -> None:
        """Nothing of it depends on that."""

    def run(self) -> None:
        """Drops one collection. Chroma does not do that in parts: it takes 3 s for 20,000 chunks."""
        self.due = math.inf
        try:
            if self._engine.drop_removed():
                self.due = time.monotonic()
        except StoreError:
            self.due = time.monotonic() + RETRY_S
            raise


class Discovery:
    """Finds repositories below `discover.roots`, now and then. A `schedule.PeriodicTask`."""

    def __init__(self, engine: Engine, roster: RepoRegistry) -> None:
        self._engine = engine
        self._roster = roster
        self.problems: tuple[str, ...] = ()
        """what to say of the last look"""
        self.reconfigured()

    @property
    def patience_s(self) -> float:
        """A share of the interval."""
        return patience_of(self._engine.config.discover.interval)

    def reconfigured(self) -> None:
        """At once, if there is a place to look in."""
        self.due = time.monotonic() if self._engine.config.discover.roots else math.inf
        self.problems = ()

    def run(self) -> None:
        """Looks, and keeps what is new."""
        settings = self._engine.config.discover
        self.due = time.monotonic() + settings.interval
        off_limits = OffLimits.of(self._engine.config.state_dir)
        # All of / may be looked through, though not be indexed.
        looked = {root: off_limits.refusal(os.path.realpath(root)) for root in settings.roots if root != os.sep}
        refused = {root: why for root, why in looked.items() if why}
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
                "the rest is left out. Raise discover.limit, or exclude something with discover.exclude"
            )
        declined = self._engine.catalog.declined()
        known = {repo.root for repo in self._engine.catalog.repos()}
        for root in found.found:
            if root not in known and root not in declined:
                try:
                    self._keep(root)
                except ReposyncError as error:
                    problems.append(str(error))
        for problem in problems:
            if problem not in self.problems:
                say(DISCOVERY, reason=problem)
        self.problems = tuple(problems)

    def _keep(self, root: str) -> None:
        if moved(self._engine.catalog, root):
            self._roster.kept(root, None)
            return
        name = os.path.basename(root)
        taken = {repo.name for repo in self._engine.catalog.repos()}
        if name in taken:  # the same name elsewhere: as much of the path as tells them apart
            name = f"{os.path.basename(os.path.dirname(root))}-{name}"
        number = 2
        while name in taken:
            name, number = f"{os.path.basename(root)}-{number}", number + 1
        with suppress(OverlapError):  # it lies in a repository that is kept
            self._roster.kept(root, name)


class Roots:
    """Notices roots that are gone, or other directories, without an event: a lazy unmount, a directory that was deleted
    while somebody is in it. A `schedule.PeriodicTask`."""

    patience_s = patience_of(ROOTS_S)

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.due = time.monotonic() + ROOTS_S

    def reconfigured(self) -> None:
        """Nothing of it depends on that."""

    def run(self) -> None:
        """Looks."""
        self.due = time.monotonic() + ROOTS_S
        for kept in list(self._engine.kept.values()):
            if kept.missing or kept.repo.paused:
                continue
            try:
                is_there = identity_of(kept.repo.root) == kept.repo.identity
            except OSError:
                is_there = False
            if not is_there:
                self._engine.hint(kept.repo.root, "", True)


class Missing:
    """Counts for how long roots have been gone, and drops the index of those gone for too long. A
    `schedule.PeriodicTask`.

    Only time in which the service ran counts, on a clock that nobody sets.
    """

    patience_s = patience_of(COUNT_S)

    def __init__(self, engine: Engine, roster: RepoRegistry) -> None:
        self._engine = engine
        self._roster = roster
        self.due = time.monotonic() + COUNT_S

    def reconfigured(self) -> None:
        """The limit is looked up when it counts."""

    def run(self) -> None:
        """Counts."""
        now = time.monotonic()
        self.due = now + COUNT_S
        limit_s = self._engine.config.watch.forget_after * DAY_S
        for kept in list(self._engine.kept.values()):
            if not kept.missing or kept.repo.paused:
                continue
            kept.repo = self._counted(kept, now)
            if limit_s and kept.repo.missing_s > limit_s:
                self._roster.remove(kept.repo.name, decline=False)

    def _counted(self, kept: RepoState, now: float) -> Repo:
        seconds = kept.repo.missing_s + now - kept.missing_since
        kept.missing_since = now
        return self._engine.catalog.set_missing(kept.repo, seconds)
