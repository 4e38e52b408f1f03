"""Adds, removes, pauses and resumes repositories: in the manifest, in the registry, and in the watches."""

from __future__ import annotations

import time
from collections.abc import Callable

from reposyncd.app import messages
from reposyncd.config import Config
from reposyncd.daemon.engine.full_syncs import FullSyncs
from reposyncd.daemon.engine.records import Records
from reposyncd.daemon.engine.registry import RepoRegistry
from reposyncd.daemon.engine.repo_state import RepoState
from reposyncd.daemon.engine.snapshots import RepoSnapshot
from reposyncd.daemon.engine.transition_log import SyncReports
from reposyncd.daemon.engine.watching import Watching
from reposyncd.daemon.engine.work import Work
from reposyncd.daemon.events import ADDED, PAUSED, REMOVED, RESUMED, log_event
from reposyncd.errors import InterruptedSyncError, ReposyncError
from reposyncd.store.manifest.catalog import Repo
from reposyncd.sync.repos import add, find, named, root_of


class RepoTracking:
    """For the engine's thread. `on_removed` is called when there are collections to delete."""

    def __init__(
        self,
        config: Config,
        *,
        records: Records,
        registry: RepoRegistry,
        watching: Watching,
        full_syncs: FullSyncs,
        reports: SyncReports,
        on_removed: Callable[[], None],
    ) -> None:
        self._config = config
        self._records = records
        self._registry = registry
        self._watching = watching
        self._full_syncs = full_syncs
        self._reports = reports
        self._on_removed = on_removed

    def reconfigure(self, config: Config) -> None:
        """Uses another configuration."""
        self._config = config

    def state_of(self, repo: Repo) -> RepoState:
        """The state of a repository on record. Does not track it. Raises StoreError."""
        return RepoState(
            repo,
            settle_s=self._config.watch.settle,
            max_wait_s=self._config.watch.max_wait,
            now=time.monotonic(),
            stored=self._records.stored(repo),
            synced_at=self._records.synced_at(repo),
        )

    def add(self, path: str, name: str | None) -> RepoSnapshot:
        """Tracks the tree at `path`, if it is not tracked yet. Raises ReposyncError."""
        catalog = self._records.catalog
        root = root_of(path, self._config.state_dir)
        repo = find(catalog, root, name)
        if repo is None:
            before = {each.id for each in catalog.repos()}
            repo = add(catalog, root, name)
            if repo.id in before:  # it was moved here
                self._untrack(repo.name)
        if tracked := self._registry.find(repo.name):
            return tracked
        log_event(ADDED, repo=repo.name, path=repo.root)
        return self._registry.track(self.state_of(repo))

    def remove(self, name: str, *, decline: bool = True) -> messages.RepoRef:
        """Stops indexing a repository, and requests the deletion of its index. `decline`: discovery does not add it
        again. Raises NotFoundError."""
        [repo] = named(self._records.catalog, name)
        self._untrack(repo.name)
        self._records.catalog.remove(repo, decline=decline)
        self._on_removed()
        log_event(REMOVED, repo=repo.name, path=repo.root)
        return {"name": repo.name, "root": repo.root}

    def pause(self, name: str | None) -> messages.RepoNames:
        """Stops updating the index of a repository (None: of all). Raises NotFoundError."""
        repos = named(self._records.catalog, name)
        for each in repos:
            self._pause(each)
        return {"repos": [each.name for each in repos]}

    def resume(self, name: str | None) -> messages.RepoNames:
        """Continues updating the index of a repository (None: of all). Raises NotFoundError."""
        repos = named(self._records.catalog, name)
        for each in repos:
            self._resume(each)
        return {"repos": [each.name for each in repos]}

    def sync(self, path: str, name: str | None, work: Work, *, full: bool) -> None:
        """Adds the tree at `path` if need be, and requests a full scan. `work` ends with the scan. Raises
        ReposyncError."""
        repo = self.add(path, name).repo
        self.request_sync(repo, work, full=full)

    def request_sync(self, repo: Repo, work: Work, *, full: bool) -> None:
        """Requests a full scan, with which `work` ends. `full`: the scan trusts nothing that is on record."""
        if full:
            self._full_syncs.request_full(repo.root)
        self._registry.change(repo.name, lambda state: state.request_sync(work))

    def _pause(self, repo: Repo) -> None:
        self._ensure_tracked(repo)
        paused = self._records.catalog.set_paused(repo, True)
        self._registry.change(repo.name, lambda state: state.pause(paused))
        log_event(PAUSED, repo=repo.name, path=repo.root)
        self._watching.drop(repo.root)

    def _resume(self, repo: Repo) -> None:
        self._ensure_tracked(repo)
        resumed = self._records.catalog.set_paused(repo, False)
        self._registry.change(repo.name, lambda state: state.resume(resumed, time.monotonic()))
        log_event(RESUMED, repo=repo.name, path=repo.root)

    def _ensure_tracked(self, repo: Repo) -> None:
        if self._registry.find(repo.name) is None:
            self._registry.track(self.state_of(repo))

    def _untrack(self, name: str) -> None:
        tracked = self._registry.find(name)
        if tracked is None:
            return
        for work in self._registry.untrack(name):
            work.fail(ReposyncError(f'the repository "{name}" was removed'))
        self._reports.untracked(tracked.repo)
        self._full_syncs.forget(tracked.repo.root, InterruptedSyncError("the repository was removed"))
        self._watching.drop(tracked.repo.root)
