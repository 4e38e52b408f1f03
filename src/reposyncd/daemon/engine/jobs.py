"""Connects the parts of the engine, and selects and runs its jobs once the state is open. On the engine's thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from reposyncd.app.workspace import Workspace
from reposyncd.config import Config
from reposyncd.daemon.engine.activity import Activity
from reposyncd.daemon.engine.agenda import Agenda
from reposyncd.daemon.engine.checkpoint_job import CheckpointJob
from reposyncd.daemon.engine.full_syncs import FullSyncs
from reposyncd.daemon.engine.inbox import Command, Inbox
from reposyncd.daemon.engine.lifecycle import Heartbeat, Lifecycle
from reposyncd.daemon.engine.periodic.discovery import DiscoverRepos
from reposyncd.daemon.engine.periodic.missing import CountMissing
from reposyncd.daemon.engine.periodic.removed import DropRemoved
from reposyncd.daemon.engine.periodic.roots import CheckRoots
from reposyncd.daemon.engine.periodic.verification import VerifyRepos
from reposyncd.daemon.engine.records import Records
from reposyncd.daemon.engine.registry import RepoRegistry
from reposyncd.daemon.engine.repo_state import RETRY_S, RepoState
from reposyncd.daemon.engine.schedule import CheckpointDue, PeriodicTask, Wait
from reposyncd.daemon.engine.snapshots import NextSync, Stored
from reposyncd.daemon.engine.sync_job import SyncJob
from reposyncd.daemon.engine.tracking import RepoTracking
from reposyncd.daemon.engine.transition_log import SyncReports
from reposyncd.daemon.engine.watching import Watching
from reposyncd.daemon.events import internal_error, log_unexpected
from reposyncd.daemon.resources import ResourceGate
from reposyncd.errors import InterruptedSyncError, ReposyncError, StoreError
from reposyncd.tree.gitdir import is_busy

INDEX_SECTIONS = ("index", "embedding", "lock", "store", "limits")
"""Sections of the configuration whose values are in use for as long as the state is open."""


class Jobs:
    """The composition of the engine. Each part gets what it needs; no part gets the engine itself."""

    def __init__(
        self,
        config: Config,
        *,
        workspace: Workspace,
        registry: RepoRegistry,
        watching: Watching,
        inbox: Inbox,
        lifecycle: Lifecycle,
        heartbeat: Heartbeat,
        gate: ResourceGate,
        activity: Activity,
        reports: SyncReports,
        invalidate_store: Callable[[], object],
        now_ns: Callable[[], int],
    ) -> None:
        self._config = config
        self._workspace = workspace
        self._registry = registry
        self._gate = gate
        self._heartbeat = heartbeat
        self._full_syncs = FullSyncs()
        self._records = Records(workspace)
        removed = DropRemoved(workspace, activity)
        self.tracking = RepoTracking(
            config,
            records=self._records,
            registry=registry,
            watching=watching,
            full_syncs=self._full_syncs,
            reports=reports,
            on_removed=removed.request,
        )
        self.verification = VerifyRepos(
            workspace=workspace,
            registry=registry,
            tracking=self.tracking,
            watching=watching,
            inbox=inbox,
            activity=activity,
            is_stopping=lambda: lifecycle.is_stopping,
            heartbeat=heartbeat.advance,
            invalidate_store=invalidate_store,
        )
        self.discovery = DiscoverRepos(config, records=self._records, tracking=self.tracking)
        self.missing = CountMissing(config, records=self._records, registry=registry, tracking=self.tracking)
        self.periodic: tuple[PeriodicTask, ...] = (
            self.discovery,
            self.missing,
            CheckRoots(registry),
            removed,
            self.verification,
        )
        self._agenda = Agenda(
            self.periodic,
            lifecycle=lifecycle,
            inbox=inbox,
            registry=registry,
            gate=gate,
            activity=activity,
            is_git_busy=is_busy,
        )
        self.sync = SyncJob(
            config,
            workspace=workspace,
            records=self._records,
            registry=registry,
            watching=watching,
            full_syncs=self._full_syncs,
            pending=self._agenda,
            gate=gate,
            activity=activity,
            reports=reports,
            heartbeat=heartbeat.advance,
            now_ns=now_ns,
        )
        self._checkpoint = CheckpointJob(
            workspace=workspace,
            registry=registry,
            activity=activity,
            heartbeat=heartbeat,
            is_anything_due=self._agenda.is_anything_due,
        )

    def next(self) -> Callable[[], None] | float:
        """The next job, or the time until which there is none, on the monotonic clock."""
        match self._agenda.next():
            case Wait(until):
                return until
            case Command() as command:
                return partial(self._run_command, command)
            case NextSync() as next_sync:
                return partial(self.sync.run, next_sync)
            case CheckpointDue():
                return self._checkpoint.run
            case task:
                return partial(self._run_task, task)

    def _run_command(self, command: Command) -> None:
        try:
            command.work.done(command.run())
        except ReposyncError as error:
            command.work.fail(error)
        except Exception as error:
            log_unexpected("a command", error)
            command.work.fail(internal_error("a command"))
        except BaseException:  # the engine ends with it; nobody else knows of the command any more
            command.work.fail(internal_error("a command"))
            raise

    def _run_task(self, task: PeriodicTask) -> None:
        try:
            task.run()
        except Exception as error:
            log_unexpected(type(task).__name__, error)
            task.postpone(time.monotonic() + RETRY_S)

    def reconfigure(self, config: Config) -> list[str]:
        """Uses another configuration; only the path of the state directory stays. Returns which changed sections matter
        to the index."""
        before, self._config = self._config, config
        changed = [name for name in INDEX_SECTIONS if getattr(before, name) != getattr(config, name)]
        self._gate.reconfigure(config.limits)
        self.sync.reconfigure(config)
        self.tracking.reconfigure(config)
        if changed:
            self._workspace.reconfigure(config)
        for task in self.periodic:
            task.reconfigure(config)
        if changed:
            self._full_syncs.restart_all(InterruptedSyncError("the configuration has changed; it continues from there"))
        now, watch = time.monotonic(), config.watch
        self._registry.change_all(
            lambda state: state.reconfigure(watch.settle, watch.max_wait, is_index_changed=bool(changed), now=now)
        )
        if changed:
            self._read_stored()
        return changed

    def _read_stored(self) -> None:
        """Reads what the index has of each repository. The collection of another model is no longer searched."""
        for repo in self._registry.named(None):
            stored = Stored()
            with suppress(StoreError):  # the next job meets the error too, and handles it
                stored = self._records.stored(repo.repo)
            self._registry.change(repo.name, partial(_set_stored, stored))

    def close(self) -> None:
        """Ends all full scans. The next start continues those that are not complete."""
        self._full_syncs.end_all(InterruptedSyncError("the service was stopped; it continues from there"))


def _set_stored(stored: Stored, state: RepoState) -> None:
    state.record(stored=stored)
