"""The engine: the one thread that writes. Opens the state, then does one job after another."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from typing import Any

from reposyncd.app import messages
from reposyncd.app.workspace import Workspace
from reposyncd.config import Config
from reposyncd.daemon.engine.activity import Activity
from reposyncd.daemon.engine.inbox import Command, Inbox
from reposyncd.daemon.engine.jobs import Jobs
from reposyncd.daemon.engine.lifecycle import Heartbeat, Lifecycle
from reposyncd.daemon.engine.registry import LOCK_PATIENCE_S, RepoRegistry, progress_message
from reposyncd.daemon.engine.repo_state import RepoState
from reposyncd.daemon.engine.snapshots import EngineSnapshot
from reposyncd.daemon.engine.state_lock import take_state_lock
from reposyncd.daemon.engine.transition_log import SyncReports
from reposyncd.daemon.engine.watching import Watching
from reposyncd.daemon.engine.work import Work
from reposyncd.daemon.events import EVENTS_LOST, say
from reposyncd.daemon.resources import ResourceGate, SuspendDetector
from reposyncd.errors import CorruptManifestError, ReposyncError, safe_message
from reposyncd.model import Progress
from reposyncd.ports import Observer, RunningIndex
from reposyncd.store.manifest.catalog import Incident

STALL_S = 90.0
"""A part that should have advanced, and has not for this time, is taken to hang. Nothing that the engine does alone
takes a tenth of it; what the index process does is waited for in half seconds, and has deadlines of its own."""


class Engine(threading.Thread):
    """Keeps the repositories of a state directory current, and holds the lock of the state, until it is told to stop.

    `ask`, `lose_events`, `invalidate_store`, `stop`, `abandon` and all that is read is for any thread; everything else
    for the engine's.

    `observer` and `reports` outlive it. `on_ready` is called when the repositories are known; `on_end` once, with what
    ended it, or None after `stop`; `on_change` when a job begins or ends; `on_death`, from any thread, with what has
    died and why, if the engine can do without it and has it restarted. `has_own_api` says whether the API that
    answers at the socket is ours. `recorded` names the repositories on record, until the engine knows them.
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
            on_step=self._heartbeat.beat,
        )
        self._workspace: Workspace | None = None
        self._jobs: Jobs | None = None

    # For any thread ---------------------------------------------------------------------------------------

    def ask(self, command: Callable[[], Any]) -> Work:
        """Has the engine call this between two jobs; the work ends with what it returns, as JSON."""
        work = Work(self.progress)
        if self.lifecycle.is_stopping:
            work.fail(self.lifecycle.refusal)
        else:
            self._inbox.put(Command(command, work))
        return work

    def lose_events(self, reason: str) -> None:
        """Events were lost: every tree is scanned."""
        say(EVENTS_LOST, reason=reason)
        self.registry.lose_events(time.monotonic())

    def invalidate_store(self) -> Work:
        """Somebody found the store damaged: it is examined, and mended."""

        def command() -> dict[str, Any]:
            with suppress(CorruptManifestError):  # the next scan meets it too, and mends it
                self.workspace.catalog.forget_stamp()
            now = time.monotonic()
            self.registry.change_all(lambda state: state.invalidate(now))
            return {}

        return self.ask(command)

    def stop(self) -> None:
        """Ends it after the batches that are under way. Returns within a second, even if the engine hangs."""
        self.lifecycle.tell_to_stop()
        self.registry.wake(LOCK_PATIENCE_S)

    def abandon(self) -> None:
        """Cuts off what the child processes are doing. Nothing is lost: it is done again."""
        if self._workspace:  # else it is still opening the state
            self._workspace.processes.abandon()

    @property
    def workspace(self) -> Workspace:
        """The open state, once the engine has begun."""
        assert self._workspace  # noqa: S101 - nobody asks before
        return self._workspace

    @property
    def jobs(self) -> Jobs:
        """What it does, once the engine has begun."""
        assert self._jobs  # noqa: S101 - nobody asks before
        return self._jobs

    @property
    def problems(self) -> list[str]:
        """What `status` says of it, beside its repositories."""
        discovery = self._jobs.discovery.problems if self._jobs else ()
        return [*discovery, *filter(None, [self.activity.checkpoint_failure])]

    @property
    def is_responsive(self) -> bool:
        """Whether its thread advances."""
        return self._heartbeat.is_responsive

    @property
    def is_watcher_responsive(self) -> bool:
        """Whether the thread that reads file events advances."""
        return self.watching.stalled_s() < self._stall_s

    @property
    def is_index_responsive(self) -> bool:
        """Whether the calls to the index process are supervised."""
        return self._workspace is None or self._workspace.processes.index_stalled_s < self._stall_s

    @property
    def is_chunking_responsive(self) -> bool:
        """Whether the chunking processes are supervised."""
        return self._workspace is None or self._workspace.processes.chunking_stalled_s < self._stall_s

    @property
    def is_busy(self) -> bool:
        """Whether a sync is under way, or the engine hangs."""
        repos = self.registry.snapshots(LOCK_PATIENCE_S)
        return repos is None or any(each.running is not None for each in repos)

    def progress(self) -> messages.TaskProgress:
        """What is still to be done; what was, if the engine hangs."""
        if self.lifecycle.has_begun:
            return self.registry.progress()
        why = self.lifecycle.starting
        pending: list[messages.PendingRepo] = [{"repo": name, "paths": [], "why": why} for name in self._recorded()]
        return progress_message(Progress("scan", trouble=self.lifecycle.waits_for_lock), pending)

    def snapshot(self, timeout_s: float = -1) -> EngineSnapshot | None:
        """What is true now. None if the engine hangs, and that is not known within this time (-1: it is waited for)."""
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
                    self._heartbeat.beat()
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
        """A thread waits for a child process. It is that of a search, too, which is no sign of life of the engine."""
        if threading.current_thread() is self:
            self._heartbeat.beat()

    def _lock(self, locked: ExitStack) -> bool:
        def on_wait() -> None:
            self._heartbeat.beat()
            self._on_change()

        return take_state_lock(
            locked, self.workspace, self._config, self.lifecycle, has_own_api=self._has_own_api, on_wait=on_wait
        )

    def _begin(self) -> None:
        """Opens the state, and learns which repositories there are."""
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

        self.workspace.open(read, self._heartbeat.beat)
        self.activity.set_incidents(incidents)
        self._reports.incidents(incidents)
        for state in states:
            self.registry.track(state)

    def reconfigure(self, config: Config) -> Work:
        """Takes up another configuration, but for the place of the state. For any thread."""

        def command() -> dict[str, Any]:
            self._config = config
            return {"changed": self.jobs.reconfigure(config)}

        return self.ask(command)

    def _next(self) -> Callable[[], None] | None:
        """Waits for the next job; None: it is to stop."""
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
