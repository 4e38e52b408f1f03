"""The engine: the one thread that writes. It decides what is done next, and does it."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from functools import partial
from typing import Any

from reposyncd.app.client import running as is_answered
from reposyncd.app.workspace import Workspace
from reposyncd.config import Config
from reposyncd.daemon.engine.inbox import Command, Inbox
from reposyncd.daemon.engine.jobs import RETRY_S, Jobs
from reposyncd.daemon.engine.repo_state import RepoState, Stored
from reposyncd.daemon.engine.schedule import CheckpointJob, PeriodicTask, Schedule, SyncJob, Wait
from reposyncd.daemon.engine.transition_log import TransitionLog
from reposyncd.daemon.engine.watching import Watching
from reposyncd.daemon.engine.work import Work
from reposyncd.daemon.events import EVENTS_LOST, LOCKED, say, say_unexpected
from reposyncd.daemon.resources import ResourceGate, Sleep
from reposyncd.errors import (
    BusyError,
    CorruptManifestError,
    DaemonNotRunningError,
    InterruptedSyncError,
    OverloadedError,
    ReposyncError,
    StoreError,
    safe_message,
)
from reposyncd.model import Progress
from reposyncd.ports import RunningIndex
from reposyncd.store.locks import STATE_LOCK, holder
from reposyncd.store.manifest.catalog import Catalog, Incident, Repo
from reposyncd.sync.debounce import Debounce
from reposyncd.tree.gitdir import is_busy

AGAIN_S = 4.0
"""After a change its directories are looked at once more, when their times are old enough to be proof."""

AGAIN_AT_MOST_S = 60.0
"""And at the latest after so long, if changes go on."""

PATIENCE_S = 1.0
"""How long others wait for the engine's lock, which it holds for microseconds, before they do without."""

LOCK_LOOK_S = 1.0
"""Between two looks at whether the state is still held by another process."""

STALL_S = 90.0
"""A part that has not come by for so long, although it was to, hangs. Nothing that the engine does alone takes a tenth
of that; what the index process does for it is waited for in half seconds, and has its own deadlines."""


class Engine(threading.Thread):
    """Keeps the repositories of a state directory current until it is told to stop. Holds the state lock for its life.

    `ask`, `hint`, `lost`, `stop` and what is read under `changed` are for any thread; everything else is the engine
    thread's. `on_end` is called once, with what ended it, or None after `stop`; `on_change` when a job begins or ends;
    `on_death`, from any thread, with what has died and why, when it can do without and has it started again.
    `has_api` says whether the API that answers is our own, and not another service's. `recorded` names the repositories
    on record, while it begins.
    """

    def __init__(
        self,
        config: Config,
        environ: Mapping[str, str],
        *,
        on_ready: Callable[[], None],
        on_end: Callable[[BaseException | None], None],
        on_change: Callable[[], None] = lambda: None,
        on_death: Callable[[str, str], None],
        has_api: Callable[[], bool] = lambda: False,
        recorded: Callable[[], Iterable[str]] = lambda: (),
        index: RunningIndex | None = None,
        now_ns: Callable[[], int] = time.time_ns,
        stall_s: float = STALL_S,
    ) -> None:
        super().__init__(name="engine", daemon=True)
        self.now_ns = now_ns
        self.config = config
        self._environ = environ
        self._index = index
        self._on_ready = on_ready
        self._on_end = on_end
        self.on_change = on_change
        self._on_death = on_death
        self._has_api = has_api
        self._recorded = recorded
        self._stall_s = stall_s
        self._expected = time.monotonic() + stall_s
        """when it comes by, at the latest, if all is well"""
        self.allowed_s = 0.0
        """by how much longer what is under way may take without a sign"""
        self.changed = threading.Condition(threading.RLock())
        self.kept: dict[str, RepoState] = {}
        """by name"""
        self._by_root: dict[str, RepoState] = {}
        self.inbox = Inbox()
        self._told = self._stopping = False
        self.has_begun = False
        """whether it is known which repositories there are"""
        self.waits_for_lock = ""
        """who holds the state, while it waits for that"""
        self._last_progress: dict[str, Any] = {"pending": [], **asdict(Progress("scan"))}
        self.events_lost = 0
        """times that everything had to be looked at, because events were lost"""
        self.transitions = TransitionLog(now_ns())
        self.watching = Watching(
            config.state_dir,
            on_hint=self.hint,
            on_lost=self.lost,
            on_death=lambda why: on_death("the watcher", why),
            on_step=self.heartbeat,
        )
        self.periodic_tasks: list[PeriodicTask] = []
        """what else is to be done now and then"""
        self.activity = ""
        """what it does apart from any repository"""
        self.bulk = _bulk(config)
        self._schedule = Schedule()
        self._sleep = Sleep()
        self._jobs = Jobs(self)
        self.last_work = 0.0
        """when a job ended"""
        self.dirty_store = True
        """whether the store may be worth a checkpoint"""
        self.checkpoint_failure = ""
        """why the last checkpoint failed"""
        self.incidents: list[Incident] = []
        """what was found damaged"""
        self._workspace: Workspace | None = None

    # For any thread ---------------------------------------------------------------------------------------

    def hint(self, root: str, path: str, recursive: bool) -> None:
        """Something may have changed there."""
        with self.changed:
            kept = self._by_root.get(root)
            if kept is None or kept.repo.paused:
                return
            first = len(kept.debounce) == 0
            kept.debounce.add(path, recursive, time.monotonic())
            if first:
                self.changed.notify_all()

    def lost(self, reason: str) -> None:
        """Events were lost: every tree is to be looked at as a whole."""
        say(EVENTS_LOST, reason=reason)
        with self.changed:
            self.events_lost += 1
            self.look_everywhere()

    def look_everywhere(self) -> None:
        """Every tree is to be looked at as a whole."""
        with self.changed:
            for kept in self.kept.values():
                if not kept.repo.paused:
                    kept.debounce.add("", True, time.monotonic())
            self.changed.notify_all()

    def ask(self, command: Callable[[], dict[str, Any]]) -> Work:
        """Has the engine do something between two jobs."""
        work = Work(self.progress)
        with self.changed:
            try:
                self.check_alive()
            except ReposyncError as error:
                work.fail(error)
            else:
                self.inbox.put(Command(command, work))
                self.changed.notify_all()
        return work

    def check_alive(self) -> None:
        """Raises ReposyncError if nothing that is asked will be done. Under the lock."""
        if self._stopping:
            raise self._refusal()

    def check_begun(self) -> None:
        """Raises ReposyncError if it is not known by now which repositories there are. Under the lock."""
        self.check_alive()
        if self.has_begun:
            return
        if self.waits_for_lock:
            raise DaemonNotRunningError(self.beginning)  # who asks can do without it
        raise OverloadedError(f"{self.beginning}; ask again in some seconds")

    @property
    def beginning(self) -> str:
        """What to say of an engine that does not know by now which repositories there are."""
        waits = self.waits_for_lock
        return "the engine is starting" + (f"; {waits}" if waits else "")

    def _refusal(self) -> ReposyncError:
        if self._told:
            return ReposyncError("the service is stopping")
        return OverloadedError("the engine has died, and is started again; ask again in some seconds")

    def distrust_store(self) -> Work:
        """Somebody found the store damaged: it is to be looked at, and mended."""

        def command() -> dict[str, Any]:
            with suppress(CorruptManifestError):  # the look at the tree meets it too, and mends it
                self.catalog.forget_stamp()
            with self.changed:
                for kept in self.kept.values():
                    if not kept.repo.paused:
                        kept.ready, kept.behind, kept.whole_due = False, True, time.monotonic()
            return {}

        return self.ask(command)

    @property
    def is_told_to_stop(self) -> bool:
        """Whether `stop` was called, and not only that it has ended."""
        return self._told

    @property
    def is_stopping(self) -> bool:
        """Whether it was told to stop."""
        return self._stopping

    def stop(self) -> None:
        """Ends it after the batches that are under way. Returns within a second, whatever it is at."""
        self._told = self._stopping = True
        with self.lock_in_time() as is_locked:
            if is_locked:
                self.changed.notify_all()

    def abandon(self) -> None:
        """Cuts off what the index process is doing. Nothing is lost: it is done again."""
        if self._workspace:  # else it is still opening the state
            self._workspace.abandon()

    @contextmanager
    def lock_in_time(self, timeout_s: float = PATIENCE_S) -> Iterator[bool]:
        """`changed`, or False if it is not had within that time (-1: without end): the engine hangs with it then."""
        is_locked = self.changed.acquire(timeout=timeout_s)
        try:
            yield is_locked
        finally:
            if is_locked:
                self.changed.release()

    def heartbeat(self) -> None:
        """The engine makes progress."""
        self._expected = time.monotonic() + self._stall_s + self.allowed_s

    @property
    def is_responsive(self) -> bool:
        """Whether it came by when it should have."""
        return time.monotonic() < self._expected

    @property
    def is_watcher_responsive(self) -> bool:
        """Whether the thread that reads file events takes up what there is."""
        return self.watching.stalled_s() < self._stall_s

    @property
    def is_index_responsive(self) -> bool:
        """Whether somebody looks after what the index process was asked."""
        return self._workspace is None or self._workspace.index_stalled_s < self._stall_s

    @property
    def is_chunking_responsive(self) -> bool:
        """Whether somebody looks after what is being cut."""
        return self._workspace is None or self._workspace.chunking_stalled_s < self._stall_s

    @property
    def is_busy(self) -> bool:
        """Whether a job is under way, or it hangs."""
        with self.lock_in_time() as is_locked:
            return not is_locked or any(kept.running is not None for kept in self.kept.values())

    def progress(self) -> dict[str, Any]:
        """What is still to do, as JSON; what was, if the engine hangs."""
        if not self.has_begun:
            pending = [{"repo": name, "paths": [], "why": self.beginning} for name in self._recorded()]
            return {"pending": pending, **asdict(Progress("scan", trouble=self.waits_for_lock))}
        with self.lock_in_time() as is_locked:
            if is_locked:
                self._last_progress = self._progress()
        return self._last_progress

    def _progress(self) -> dict[str, Any]:
        pending = [
            {"repo": kept.repo.name, "paths": kept.debounce.paths()[:20], "why": kept.state[1] or kept.state[0]}
            for kept in self.kept.values()
            if kept.is_pending or kept.running is not None or kept.flushes or kept.syncs
        ]
        running = next((kept for kept in self.kept.values() if kept.running is not None), None)
        now = (running.progress if running else None) or Progress("scan")
        return {"pending": pending, **asdict(now)}

    # The loop ---------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Until `stop`."""
        ended: BaseException | None = None
        try:
            with Workspace(
                self.config,
                self._environ,
                index=self._index,
                now_ns=self.now_ns,
                scan_hook=self.watching.look,
                on_death=self._on_death,
                on_wait=self.heartbeat,
            ) as self._workspace:
                with ExitStack() as locked:
                    if not self._lock(locked):
                        return
                    self._begin()
                    self.has_begun = True
                    self._on_ready()
                    while job := self._next():
                        self.heartbeat()
                        job()
                self._end()
        except BaseException as error:
            ended = error
            self._fail(error)
        finally:
            self.watching.close()
            self._refuse_all(ended)
            self._on_end(ended)

    def _lock(self, locked: ExitStack) -> bool:
        """Takes the state's lock. Waits without end for a sync or a verify that has it, and gives up for another
        service, after `lock.timeout`; says at once who has it, and for how long it waits. False: it was told to stop
        before."""
        began, place, look_s = time.monotonic(), self.config.state_dir, 0.0
        while not self._stopping:
            self.heartbeat()
            try:
                locked.enter_context(self.workspace.state_lock(look_s))
            except BusyError:
                who = f"process {holder(os.path.join(place, STATE_LOCK)) or 'unknown'}"
                limit_s = self.config.lock.timeout
                if not self._has_api() and is_answered(self.config.socket):
                    if time.monotonic() >= began + limit_s:
                        raise BusyError(f"another reposyncd daemon ({who}) keeps {place}; stop it first") from None
                    waits = f"another reposyncd daemon ({who}) keeps {place}; it is waited for, {limit_s:g} s at most"
                else:
                    waits = f"{who} is writing to {place}; it is waited for until it is done"
                if waits != self.waits_for_lock:
                    say(LOCKED, reason=waits)
                self.waits_for_lock = waits
                self.on_change()
                look_s = LOCK_LOOK_S
            else:
                self.waits_for_lock = ""
                return True
        return False

    def _begin(self) -> None:
        self.watching.ensure()
        known: list[RepoState] = []

        def learn() -> None:
            self.incidents = self.catalog.incidents()
            known[:] = [self._known(repo) for repo in self.catalog.repos()]

        self.workspace.open(learn, self.heartbeat)
        self.transitions.incidents(self.incidents)
        for kept in known:
            self._keep(kept)

    def _fail(self, error: BaseException) -> None:
        """It is visible that nothing is kept any more."""
        with self.changed:
            self.activity = "failed"
            for kept in self.kept.values():
                kept.running, kept.progress, kept.trouble = None, None, ""
                kept.failure = f"the engine has died: {safe_message(error)}"

    def _end(self) -> None:
        for kept in self.kept.values():
            if kept.sync:
                kept.sync.end(InterruptedSyncError("the service was stopped; it goes on from there"))

    def _refuse_all(self, ended: BaseException | None) -> None:
        with self.changed:
            self._stopping = True
            works: list[Work] = []
            for kept in self.kept.values():
                works += [*kept.syncs, *kept.flushes]
                kept.syncs, kept.flushes = [], []
            error = ended if isinstance(ended, ReposyncError) else self._refusal()
            self.inbox.refuse(error)
        for work in works:
            work.fail(error)

    def _next(self) -> Callable[[], None] | None:
        """Waits for the next job; None: it is to stop."""
        while not self._stopping:
            at_work = self._where_git_is_at_work()
            with self.changed:
                now = time.monotonic()
                if self._sleep.was_suspended():
                    for kept in self.kept.values():
                        kept.whole_due = min(kept.whole_due, now)
                job = self._choose(now, at_work)
                if callable(job):
                    return job
                self._expected = job + self._stall_s
                if not self._stopping:
                    self.changed.wait(max(0.0, job - now))
        return None

    def _where_git_is_at_work(self) -> set[str]:
        """Roots of the repos of which a part is due. Not under the lock: it looks at the disk, which may hang."""
        now = time.monotonic()
        with self.changed:
            due = [(kept.repo.root, *kept.next(now, 1.0)) for kept in self.kept.values()]
        return {root for root, when, scope in due if -math.inf < when <= now and not scope.is_whole and is_busy(root)}

    def _choose(self, now: float, at_work: Set[str]) -> Callable[[], None] | float:
        """The job that is due, or until when none is. `at_work`: roots where git has more to write."""
        if self.inbox:
            return partial(self._obey, self.inbox.take())
        chosen = self._schedule.choose(
            now,
            self.kept.values(),
            self.periodic_tasks,
            at_work=at_work,
            may_go_on=lambda: self.bulk.may_go_on(now),
            quiet_since=self.last_work if self.dirty_store else None,
        )
        match chosen:
            case Wait(until):
                return until
            case SyncJob():
                return partial(self._jobs.bring, *chosen)
            case CheckpointJob():
                return self._jobs.checkpoint
        return partial(self._run, chosen)

    def _obey(self, command: Command) -> None:
        try:
            command.work.done(command.do())
        except ReposyncError as error:
            command.work.fail(error)
        except Exception as error:
            say_unexpected("a command", error)
            command.work.fail(ReposyncError(f"internal error: {safe_message(error)}"))

    def _run(self, task: PeriodicTask) -> None:
        try:
            task.run()
        except Exception as error:
            say_unexpected(type(task).__name__.lower(), error)
            task.due = max(task.due, time.monotonic() + RETRY_S)

    def reconfigure(self, config: Config) -> dict[str, Any]:
        """From now on all is as this configuration has it, but for where the state is. A command."""
        before, self.config = self.config, config
        self.bulk = _bulk(config)
        self._jobs.reconfigure()
        # What is true of a tree may be another thing from now on.
        changed = [name for name in _OF_THE_INDEX if getattr(before, name) != getattr(config, name)]
        if changed:
            self.workspace.reconfigure(config)
        for task in self.periodic_tasks:
            task.reconfigured()
        now = time.monotonic()
        for kept in self.kept.values():
            if changed and kept.sync:
                kept.read_all = kept.read_all or not kept.sync.trusts
                kept.sync.end(InterruptedSyncError("the configuration was changed; it goes on from there"))
                kept.sync = None
            with self.changed:
                kept.debounce.reconfigure(config.watch.settle, config.watch.max_wait)
                if not kept.repo.paused:
                    kept.whole_due = now
                    if changed:
                        kept.ready, kept.behind = False, True
            if changed:  # one of another model is no longer searched
                kept.stored = Stored()
                with suppress(StoreError):  # the next job meets it too, and deals with it
                    kept.stored = self._jobs.stored(kept)
        return {"changed": changed}

    # All repos --------------------------------------------------------------------------------------------

    @property
    def workspace(self) -> Workspace:
        """The open state; from when `on_ready` was called."""
        assert self._workspace  # noqa: S101 - nobody asks before
        return self._workspace

    @property
    def catalog(self) -> Catalog:
        """The repos on record."""
        return self.workspace.catalog

    def keep(self, repo: Repo) -> RepoState:
        """From now on the repo is kept current."""
        kept = self._known(repo)
        self._keep(kept)
        return kept

    def _known(self, repo: Repo) -> RepoState:
        """The repo, with what is on record of it."""
        watch = self.config.watch
        kept = RepoState(
            repo,
            Debounce(watch.settle, watch.max_wait),
            Debounce(AGAIN_S, AGAIN_AT_MOST_S),
            whole_due=math.inf if repo.paused else time.monotonic(),
        )
        kept.stored = self._jobs.stored(kept)
        for run in self.workspace.runs(repo):
            if run.outcome == "done" and run.finished_ns:
                kept.synced_at, kept.indexed = run.finished_ns / 1e9, True
                break
        return kept

    def _keep(self, kept: RepoState) -> None:
        with self.changed:
            self.kept[kept.repo.name] = self._by_root[kept.repo.root] = kept
            self.changed.notify_all()

    def untrack(self, kept: RepoState) -> None:
        """The repo is kept no longer."""
        with self.changed:
            self.kept.pop(kept.repo.name, None)
            self._by_root.pop(kept.repo.root, None)
            self.transitions.forget(kept.repo.root)
            for flush in kept.flushes:
                flush.is_current(kept.repo.name)  # there is no index to be behind
        for work in kept.syncs:
            work.fail(ReposyncError(f'the repository "{kept.repo.name}" was removed'))
        if kept.sync:
            kept.sync.end(InterruptedSyncError("the repository was removed"))
        self.watching.drop(kept.repo.root)

    def drop_removed(self) -> bool:
        """Deletes one collection of a removed repo; see `Workspace.drop_removed`."""
        self.dirty_store |= (there_was := self.workspace.drop_removed())
        return there_was


_OF_THE_INDEX = ("index", "embedding", "lock", "store", "limits")
"""Sections of the configuration of which something is held for as long as the state is open."""


def _bulk(config: Config) -> ResourceGate:
    return ResourceGate(on_battery=config.limits.on_battery, memory_pressure=config.limits.memory_pressure)
