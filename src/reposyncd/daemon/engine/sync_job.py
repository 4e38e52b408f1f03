"""Syncs one repository: a part of its tree, or a full scan. On the engine's thread."""

from __future__ import annotations

import math
import os
import random
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Protocol

from reposyncd.app.workspace import Workspace
from reposyncd.config import Config
from reposyncd.daemon.engine.activity import Activity
from reposyncd.daemon.engine.full_syncs import FullSyncs
from reposyncd.daemon.engine.records import Records
from reposyncd.daemon.engine.registry import RepoRegistry
from reposyncd.daemon.engine.repo_state import RepoState
from reposyncd.daemon.engine.snapshots import NextSync, StartedSync, Stored
from reposyncd.daemon.engine.transition_log import SyncReports
from reposyncd.daemon.engine.watching import Watching
from reposyncd.daemon.events import internal_error, log_unexpected
from reposyncd.daemon.resources import RateLimit, ResourceGate, return_memory
from reposyncd.errors import (
    InterruptedSyncError,
    RefusedRootError,
    ReposyncError,
    RootMissingError,
    StoreError,
    WholeTreeNeededError,
)
from reposyncd.model import Progress, SyncResult
from reposyncd.store.manifest.catalog import Repo
from reposyncd.sync.runner import Sync, SyncRunner

LONG_SHARE = 4
"""A full scan runs for at least this many times as long as it took to resume it, before it makes way for other work."""

LONG_AT_LEAST_S = 0.5
"""And for at least this long."""

CHECK_S = 0.05
"""Time between two checks whether a full scan has to make way for other work."""

SPREAD = 0.25
"""The time between two full scans of a tree varies by this share, so that not all trees are scanned at once."""


class Pending(Protocol):
    """What else the engine has to do. Its answers are quick, since it is asked often."""

    @property
    def is_stopping(self) -> bool:
        """Whether the engine has to stop."""
        ...

    @property
    def has_commands(self) -> bool:
        """Whether there are commands to carry out."""
        ...

    def goes_before(self, repo: str, now: float) -> bool:
        """Whether something is due that comes before the sync of this repository."""
        ...


@dataclass
class _Run:
    """The sync that is under way."""

    repo: Repo
    started: StartedSync
    is_indexed: bool
    stored: Stored
    progress: Progress = field(default_factory=lambda: Progress("scan"))
    began: float = 0.0
    ready: float = 0.0
    """when it was known what there is to do"""
    checked: float = 0.0
    """when it was last checked whether the sync has to make way"""
    number: int | None = None  # in the history

    @property
    def name(self) -> str:
        return self.repo.name

    @property
    def is_full_scan(self) -> bool:
        return self.started.scope.is_whole

    @property
    def only_waits(self) -> bool:
        """Whether it only waits for a file that takes long to cut. Then it loses nothing by making way."""
        return bool(self.progress.cutting)


class SyncJob:
    """Syncs one repository at a time, until the sync is done, has failed, or makes way for other work. `heartbeat` is
    called often during a sync. `now_ns` is the wall clock."""

    def __init__(
        self,
        config: Config,
        *,
        workspace: Workspace,
        records: Records,
        registry: RepoRegistry,
        watching: Watching,
        full_syncs: FullSyncs,
        pending: Pending,
        gate: ResourceGate,
        activity: Activity,
        reports: SyncReports,
        heartbeat: Callable[[], None],
        now_ns: Callable[[], int],
    ) -> None:
        self._workspace = workspace
        self._records = records
        self._registry = registry
        self._watching = watching
        self._full_syncs = full_syncs
        self._pending = pending
        self._gate = gate
        self._activity = activity
        self._reports = reports
        self._heartbeat = heartbeat
        self._now_ns = now_ns
        self._run: _Run
        """the sync that is under way"""
        self.reconfigure(config)

    def reconfigure(self, config: Config) -> None:
        """Uses another configuration."""
        self._config = config
        self._rate = RateLimit(config.limits.rate)

    def run(self, next_sync: NextSync) -> None:
        """Runs the sync, and answers the callers that wait for it. An error becomes the state of the repository. Only
        an error that ends the engine is raised; then the sync is due again, and its callers wait for that."""
        now = time.monotonic()
        if self._watching.ensure():
            self._registry.rescan_all(now)  # the scans also set the watches
        name = next_sync.repo
        before = self._registry.find(name)
        assert before  # noqa: S101 - only this thread removes repositories
        started = self._registry.change(name, lambda state: state.begin(next_sync, now))
        run = self._run = _Run(before.repo, started, before.is_indexed, before.stored)
        self._activity.job_begins()
        try:
            result, error = self._try(run)
            self._conclude(run, result, error)
            if run.is_full_scan:
                return_memory()
            if result is not None:
                self._report(run, result)
        except BaseException:
            self._registry.change(name, partial(_cut_off, started))
            raise
        self._end(run, result, error)
        self._activity.job_ends(time.monotonic())

    def _try(self, run: _Run) -> tuple[SyncResult | None, ReposyncError | None]:
        """The result, which is None if there was nothing to do, or the error."""
        try:
            return self._sync(run) if run.started.scope else None, None
        except ReposyncError as raised:
            return None, raised
        except Exception as raised:
            what = f"the sync of {run.name}"
            log_unexpected(what, raised)
            return None, internal_error(what)

    def _sync(self, run: _Run) -> SyncResult:
        root = run.repo.root
        if not os.path.isdir(root):
            raise RootMissingError(f"{root} is not there; its index is kept")
        self._workspace.scanner.check_root(run.repo)
        run.began = run.ready = time.monotonic()
        if not run.is_full_scan:
            return Sync(self._runner(run), full=False).run(run.started.scope)
        sync = self._full_syncs.begin(root, lambda is_full: Sync(self._runner(run), full=is_full))
        result = sync.run()
        run.number = sync.number
        self._full_syncs.done(root)
        return result

    # During the sync --------------------------------------------------------------------------------------

    def _runner(self, run: _Run) -> SyncRunner:
        """Its hooks apply to the sync under way at the time of the call: a full scan may continue in a later sync."""
        should_stop = self._should_stop_scan if run.is_full_scan else self._should_stop_part
        return self._workspace.runner(
            lambda: self._find(self._run),
            lock=lambda: nullcontext(),
            patience_s=math.inf,
            on_progress=lambda progress: self._on_progress(self._run, progress),
            should_stop=lambda: should_stop(self._run),
            makes_checkpoints=False,
            throttle=(lambda chunks: self._throttle(self._run, chunks)) if run.is_full_scan else lambda chunks: None,
        )

    def _find(self, run: _Run) -> Repo:
        run.repo = repo = self._records.find(run.repo)
        self._registry.change(run.name, lambda state: state.record(repo=repo))
        return repo

    def _on_progress(self, run: _Run, progress: Progress) -> None:
        self._heartbeat()
        now = time.monotonic()
        stored = None
        if progress.phase == "index":
            if run.ready == run.began:
                run.ready = now
            if run.stored.collection is None or progress.chunks_done != run.progress.chunks_done:
                run.stored = stored = self._records.stored(run.repo)  # what is stored already can be searched
        run.progress = progress
        self._registry.change(run.name, lambda state: state.advance(progress, now, stored))

    def _should_stop_part(self, run: _Run) -> bool:
        self._heartbeat()
        if self._pending.is_stopping or (self._pending.has_commands and run.progress.trouble):
            return True
        return run.only_waits and self._pending.goes_before(run.name, time.monotonic())

    def _should_stop_scan(self, run: _Run) -> bool:
        """Whether a full scan has to make way for other work."""
        now = time.monotonic()
        self._heartbeat()
        if self._pending.is_stopping:
            return True
        resuming_s = max(run.ready - run.began, LONG_AT_LEAST_S)
        is_early = now < run.ready + LONG_SHARE * resuming_s and not run.only_waits
        if now < run.checked + CHECK_S or is_early:
            return False
        run.checked = now
        if not (run.is_indexed or run.started.syncs) and self._gate.allowed_from(now) > now:
            return True
        return self._pending.goes_before(run.name, now)

    def _throttle(self, run: _Run, chunks: int) -> None:
        """Waits as long as `limits.rate` demands, or until the sync has to make way."""
        until = time.monotonic() + self._rate.delay_s(chunks, time.monotonic())
        while (left := until - time.monotonic()) > 0 and not self._should_stop_scan(run):
            time.sleep(min(left, CHECK_S))

    # After the sync ---------------------------------------------------------------------------------------

    def _conclude(self, run: _Run, result: SyncResult | None, error: ReposyncError | None) -> None:
        """Sets the new state of the repository, and what has to be done next."""
        now, scope, watch = time.monotonic(), run.started.scope, self._config.watch
        try:
            self._read_back(run, is_current=error is None)
        except StoreError as raised:  # the next job meets the error too, and handles it
            error = error or raised
        coverage = self._watching.coverage(run.repo.root) if scope and error is None else None
        every_s = watch.reconcile if coverage and coverage.mode == "inotify" else watch.poll
        next_full_scan = now + every_s * (1 + SPREAD * (random.random() - 0.5))  # noqa: S311 - no secret

        def conclude(state: RepoState) -> None:
            if coverage:
                state.cover(coverage, now, watch.poll)
            if error is None:
                state.synced(
                    run.started,
                    result,
                    now=now,
                    at=self._now_ns() / 1e9,
                    next_full_scan=next_full_scan,
                    retry_at_most_s=watch.reconcile,
                )
            elif isinstance(error, InterruptedSyncError):
                state.interrupted(scope, now)
            elif isinstance(error, WholeTreeNeededError):
                state.require_full_scan(now)
            elif isinstance(error, RootMissingError):
                state.missing(str(error), now)
            else:
                state.failed(str(error), now)

        self._registry.change(run.name, conclude)
        if error is None and result is not None and not result.is_empty:
            self._activity.store_changed()
        if isinstance(error, RootMissingError | RefusedRootError) or run.repo.paused:
            self._watching.drop(run.repo.root)
        if error is not None and not isinstance(error, InterruptedSyncError):
            self._full_syncs.end(run.repo.root, error)

    def _read_back(self, run: _Run, *, is_current: bool) -> None:
        """Reads from the record what the sync has written there. Raises StoreError."""
        catalog = self._records.catalog
        repo = self._find(run)
        if is_current and repo.missing_s:
            run.repo = repo = catalog.set_missing(repo, 0.0)
        self._find_again({each.root: each.id for each in catalog.repos()})
        stored, incidents, unchecked = self._records.stored(repo), catalog.incidents(), catalog.unchecked()
        self._reports.incidents(incidents)
        self._activity.set_incidents(incidents)
        self._registry.change(run.name, lambda state: state.record(repo=repo, stored=stored))

        def check(state: RepoState) -> None:
            """The store was rebuilt, or another program has written to it."""
            if state.can_sync_parts and state.repo.name != run.name and state.repo.root in unchecked:
                state.require_full_scan(time.monotonic())

        if unchecked:
            self._registry.change_all(check)

    def _find_again(self, on_record: dict[str, int]) -> None:
        """If the manifest was rebuilt, every repository has a new number in it, or is not in it yet."""
        for other in self._registry.named(None):
            if on_record.get(other.repo.root) != other.repo.id:
                found = self._records.find(other.repo)
                self._registry.change(other.name, partial(_record, found))

    def _report(self, run: _Run, result: SyncResult) -> None:
        now = self._registry.find(run.name)
        assert now  # noqa: S101 - only this thread removes repositories
        self._reports.synced(run.repo, run.started.scope, result, now.unindexed, run.number)

    def _end(self, run: _Run, result: SyncResult | None, error: ReposyncError | None) -> None:
        """Answers the callers that wait, unless the sync will be run again."""
        started = run.started
        is_repeated = isinstance(error, InterruptedSyncError | WholeTreeNeededError)

        def end(state: RepoState) -> list[dict[str, str]]:
            state.end(started if is_repeated else None)
            return [asdict(each) for each in state.unreadable.errors.values()]

        unindexed = self._registry.change(run.name, end)
        if error is None:
            for flush in started.flushes:
                flush.is_current(run.name, unindexed)
            for work in started.syncs:
                assert result is not None  # noqa: S101 - a sync is of the whole tree
                work.done(result.to_dict())
        elif not is_repeated:
            for work in [*started.flushes, *started.syncs]:
                work.fail(error)


def _cut_off(started: StartedSync, state: RepoState) -> None:
    state.interrupted(started.scope, time.monotonic())
    state.end(started)


def _record(repo: Repo, state: RepoState) -> None:
    state.record(repo=repo)
