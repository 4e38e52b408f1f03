"""The engine: the only thread that writes. Opens the state, then does one job after another."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from typing import Any

from reposyncd.app import messages
from reposyncd.app.progress import progress_message
from reposyncd.app.workspace import Workspace
from reposyncd.config import Config
from reposyncd.daemon.engine.activity import Activity
from reposyncd.daemon.engine.inbox import Command, Inbox
from reposyncd.daemon.engine.jobs import Jobs
from reposyncd.daemon.engine.lifecycle import Heartbeat, Lifecycle
from reposyncd.daemon.engine.registry import LOCK_TIMEOUT_S, RepoRegistry
from reposyncd.daemon.engine.repo_state import RepoState
from reposyncd.daemon.engine.snapshots import EngineSnapshot
from reposyncd.daemon.engine.state_lock import take_state_lock
from reposyncd.daemon.engine.transition_log import SyncReports
from reposyncd.daemon.engine.watching import Watching
from reposyncd.daemon.engine.work import Work
from reposyncd.daemon.events import EVENTS_LOST, log_event
from reposyncd.daemon.resources import ResourceGate, SuspendDetector
from reposyncd.errors import CorruptManifestError, ReposyncError, safe_message
from reposyncd.model import Progress
from reposyncd.ports import Observer, RunningIndex
from reposyncd.store.manifest.catalog import Incident

STALL_S = 90.0
"""A part that should have made progress, and has made none for this time, counts as hanging. No step of the engine
itself takes a tenth of this. It waits for the index process in steps of half a second, with separate deadlines."""


class Engine(threading.Thread):
    """Keeps the repositories of a state directory current. Holds the state lock until it is asked to stop.

    `ask`, `lose_events`, `invalidate_store`, `stop`, `abandon` and all properties are for any thread; everything else
    is for the engine's thread.

    `observer` and `reports` outlive the engine. `on_ready` is called when the repositories are known; `on_end` once,
    with the error that ended the engine, or None after `stop`; `on_change` when a job begins or ends; `on_death`, from
    any thread, with what died and why, if the engine restarts that part itself. `has_own_api` says whether the API that
    answers at the socket is our own. `recorded` returns the names of the repositories on record until the engine knows
    them.
    """

    def __init__(
        self,
        config: Config,
        environ: Mapping[str, str],
        *,
        observer: Observer,
        reports: SyncReports,
        on_ready: Callable[[], None],
        on_end: Callable[[BaseException | None], None],
        on_change: Callable[[], None],
        on_death: Callable[[str, str], None],
        has_own_api: Callable[[], bool],
        recorded: Callable[[], Iterable[str]],
        index: RunningIndex | None = None,
        now_ns: Callable[[], int] = time.time_ns,
        stall_s: float = STALL_S,
    ) -> None:
        super().__init__(name="engine", daemon=True)
        self._config = config
        self._environ = environ
        self._observer = observer
        self._reports = reports
        self._on_ready = on_ready
        self._on_end = on_end
        self._on_change = on_change
        self._on_death = on_death
        self._has_own_api = has_own_api
        self._recorded = recorded
        self._index = index
        self._now_ns = now_ns
        self._stall_s = stall_s
        self.lifecycle = Lifecycle()
        self.registry = RepoRegistry(observer)
        self.activity = Activity(on_change)
        self.gate = ResourceGate(config.limits)
        self._heartbeat = Heartbeat(stall_s)
        self._inbox = Inbox(self.registry.wake)
        self._suspend = SuspendDetector()
        self.watching = Watching(
            config.state_dir,
            on_hint=lambda root, path, recursive: self.registry.hint(root, path, recursive, time.monotonic()),
            on_lost=self.lose_events,
            on_death=lambda why: on_death("the watcher", why),
            on_step=self._heartbeat.advance,
        )
        self._workspace: Workspace | None = None
        self._jobs: Jobs | None = None

    # For any thread ---------------------------------------------------------------------------------------

    def ask(self, command: Callable[[], Any]) -> Work:
        """Calls the function on the engine's thread, between two jobs. The work ends with its result, as JSON."""
        work = Work(self.progress)
        if self.lifecycle.is_stopping:
            work.fail(self.lifecycle.refusal)
        else:
            self._inbox.put(Command(command, work))
        return work

    def lose_events(self, reason: str) -> None:
        """Events were lost, so every tree has to be scanned."""
        log_event(EVENTS_LOST, reason=reason)
        self.registry.lose_events(time.monotonic())

    def invalidate_store(self) -> Work:
        """Somebody found the store damaged: it is inspected, and repaired if need be."""

        def command() -> dict[str, Any]:
            with suppress(CorruptManifestError):  # the next scan meets the error too, and repairs the manifest
                self.workspace.catalog.forget_stamp()
            now = time.monotonic()
            self.registry.change_all(lambda state: state.invalidate(now))
            return {}

        return self.ask(command)

    def stop(self) -> None:
        """Ends the engine after the batches under way. Returns within a second, even if the engine hangs."""
        self.lifecycle.request_stop()
        self.registry.wake(LOCK_TIMEOUT_S)

    def abandon(self) -> None:
        """Cuts off what the child processes are doing. Nothing is lost: the next start does it again."""
        if self._workspace:  # else it is still opening the state
            self._workspace.processes.abandon()

    @property
    def workspace(self) -> Workspace:
        """The open state, once the engine has begun."""
        assert self._workspace  # noqa: S101 - nobody asks before that
        return self._workspace

    @property
    def jobs(self) -> Jobs:
        """The engine's jobs, once it has begun."""
        assert self._jobs  # noqa: S101 - nobody asks before that
        return self._jobs

    @property
    def problems(self) -> list[str]:
        """The problems that `status` shows besides those of repositories."""
        discovery = self._jobs.discovery.problems if self._jobs else ()
        return [*discovery, *filter(None, [self.activity.checkpoint_failure])]

    @property
    def is_responsive(self) -> bool:
        """Whether the engine's thread makes progress."""
        return self._heartbeat.is_responsive

    @property
    def is_watcher_responsive(self) -> bool:
        """Whether the thread that reads file events makes progress."""
        return self.watching.stalled_s() < self._stall_s

    @property
    def is_index_responsive(self) -> bool:
        """Whether the thread that supervises the index process makes progress."""
        return self._workspace is None or self._workspace.processes.index_stalled_s < self._stall_s

    @property
    def is_chunking_responsive(self) -> bool:
        """Whether the thread that supervises the chunking processes makes progress."""
        return self._workspace is None or self._workspace.processes.chunking_stalled_s < self._stall_s

    @property
    def is_busy(self) -> bool:
        """Whether a sync is under way, or the engine hangs."""
        repos = self.registry.snapshots(LOCK_TIMEOUT_S)
        return repos is None or any(each.running is not None for each in repos)

    def progress(self) -> messages.TaskProgress:
        """What is still to be done. If the engine hangs: what was still to be done when it last said."""
        if self.lifecycle.has_begun:
            return self.registry.progress()
        why = self.lifecycle.starting
        pending: list[messages.PendingRepo] = [{"repo": name, "paths": [], "why": why} for name in self._recorded()]
        return progress_message(Progress("scan", trouble=self.lifecycle.waits_for_lock), pending)

    def snapshot(self, timeout_s: float = -1) -> EngineSnapshot | None:
        """The present state. None if the engine hangs, and the state is not available within this time (-1: waits)."""
        repos = self.registry.snapshots(timeout_s)
        if repos is None:
            return None
        return EngineSnapshot(
            state_dir=self._config.state_dir,
            repos=repos,
            watched={each.repo.root: self.watching.count(each.repo.root) for each in repos},
            watches=self.watching.total(),
            activity=self.activity.text,
            gate_reason=self.gate.reason,
            events_lost=self.registry.events_lost,
            incidents=self.activity.incidents,
        )

    # The loop ---------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Until `stop`."""
        ended: BaseException | None = None
        try:
            with (
                Workspace(
                    self._config,
                    self._environ,
                    index=self._index,
                    observer=self._observer,
                    now_ns=self._now_ns,
                    scan_hook=self.watching.scan,
                    on_death=self._on_death,
                    on_wait=self._on_wait,
                ) as self._workspace,
                ExitStack() as locked,
            ):
                if not self._lock(locked):
                    return
                self._begin()
                self.lifecycle.begin()
                self._on_ready()
                while job := self._next():
                    self._heartbeat.advance()
                    job()
                self.jobs.close()
        except BaseException as error:
            ended = error
            self.activity.doing("failed")
            self.registry.engine_died(f"the engine has died: {safe_message(error)}", time.monotonic())
        finally:
            self.watching.close()
            self.lifecycle.end()
            refusal = ended if isinstance(ended, ReposyncError) else self.lifecycle.refusal
            self._inbox.close(refusal)
            self.registry.close(refusal)
            self._on_end(ended)

    def _on_wait(self) -> None:
        """A thread waits for a child process. It may be the thread of a search, which says nothing about the engine."""
        if threading.current_thread() is self:
            self._heartbeat.advance()

    def _lock(self, locked: ExitStack) -> bool:
        def on_wait() -> None:
            self._heartbeat.advance()
            self._on_change()

        return take_state_lock(
            locked, self.workspace, self._config, self.lifecycle, has_own_api=self._has_own_api, on_wait=on_wait
        )

    def _begin(self) -> None:
        """Opens the state, and reads which repositories there are."""
        self.watching.ensure()
        self._jobs = Jobs(
            self._config,
            workspace=self.workspace,
            registry=self.registry,
            watching=self.watching,
            inbox=self._inbox,
            lifecycle=self.lifecycle,
            heartbeat=self._heartbeat,
            gate=self.gate,
            activity=self.activity,
            reports=self._reports,
            invalidate_store=self.invalidate_store,
            now_ns=self._now_ns,
        )
        incidents: list[Incident] = []
        states: list[RepoState] = []

        def read() -> None:
            catalog = self.workspace.catalog
            incidents[:] = catalog.incidents()
            states[:] = [self.jobs.tracking.state_of(repo) for repo in catalog.repos()]

        self.workspace.open(read, self._heartbeat.advance)
        self.activity.set_incidents(incidents)
        self._reports.incidents(incidents)
        for state in states:
            self.registry.track(state)

    def reconfigure(self, config: Config) -> Work:
        """Uses another configuration; only the path of the state directory stays. For any thread."""

        def command() -> dict[str, Any]:
            self._config = config
            return {"changed": self.jobs.reconfigure(config)}

        return self.ask(command)

    def _next(self) -> Callable[[], None] | None:
        """Waits for the next job. None: the engine has to stop."""
        while not self.lifecycle.is_stopping:
            wakes = self.registry.wakes
            if self._suspend.was_suspended():
                self.registry.change_all(lambda state: state.scan_soon(time.monotonic()))
            job = self.jobs.next()
            if callable(job):
                return job
            self._heartbeat.sleep_until(job)
            if not self.lifecycle.is_stopping:
                self.registry.wait(wakes, job - time.monotonic())
        return None
