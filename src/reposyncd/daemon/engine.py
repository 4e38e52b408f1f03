"""The engine: the one thread that writes. It decides what is done next, and does it."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from typing import Any, Protocol

from reposyncd.assemble import Workspace
from reposyncd.config import Config
from reposyncd.daemon.chronicle import Chronicle
from reposyncd.daemon.gentle import Bulk, Sleep
from reposyncd.daemon.jobs import RETRY_S, Jobs
from reposyncd.daemon.kept import Kept
from reposyncd.daemon.notices import EVENTS_LOST, described, say, say_unexpected
from reposyncd.daemon.tickets import Work
from reposyncd.daemon.watching import Watching
from reposyncd.errors import (
    InterruptedSyncError,
    OverloadedError,
    ReposyncError,
)
from reposyncd.model import Progress, Scope
from reposyncd.ports import VectorIndex
from reposyncd.store.catalog import Catalog, Incident, Repo
from reposyncd.sync.debounce import Debounce
from reposyncd.tree.gitdir import is_busy

TICK_S = 60.0
"""Between two looks at the clocks, which tell whether the machine was asleep."""

GIT_STRETCH = 4.0
"""The settle time is so many times longer while git is at work: it has more to write."""

STARVED_S = 10.0
"""A long job that other work was put before for so long has its turn."""

QUIET_S = 10.0
"""Without work before a checkpoint is thought of."""

ASK_AGAIN_S = 30.0
"""Between two looks at whether a long job has to wait for the battery or for memory."""

AGAIN_S = 4.0
"""After a change its directories are looked at once more, when their times are old enough to be proof."""

AGAIN_AT_MOST_S = 60.0
"""And at the latest after so long, if changes go on."""

STALL_S = 90.0
"""A part that has not come by for so long, although it was to, hangs. Nothing that the engine does alone takes a tenth
of that; what the index process does for it is waited for in half seconds, and has its own deadlines."""


class Errand(Protocol):
    """Something that the engine does now and then, between jobs."""

    due: float
    """when, on the monotonic clock"""

    def run(self) -> None:
        """Does it, and sets when it is due again."""

    def reconfigured(self) -> None:
        """There is another configuration: sets when it is due."""


class Engine(threading.Thread):
    """Keeps the repositories of a state directory current until it is told to stop. Holds the state lock for its life.

    `ask`, `hint`, `lost`, `stop` and what is read under `changed` are for any thread; everything else is the engine
    thread's. `on_end` is called once, with what ended it, or None after `stop`; `on_change` when a job begins or ends;
    `on_death`, from any thread, with what has died and why, when it can do without and has it started again.
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
        index: VectorIndex | None = None,
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
        self._stall_s = stall_s
        self._expected = time.monotonic() + stall_s
        """when it comes by, at the latest, if all is well"""
        self.allowed_s = 0.0
        """by how much longer what is under way may take without a sign"""
        self.changed = threading.Condition(threading.RLock())
        self.kept: dict[str, Kept] = {}
        """by name"""
        self._by_root: dict[str, Kept] = {}
        self._commands: deque[tuple[Callable[[], dict[str, Any]], Work]] = deque()
        self._promised: set[Work] = set()
        self._told = self._stopping = False
        self.events_lost = 0
        """times that everything had to be looked at, because events were lost"""
        self.chronicle = Chronicle(now_ns())
        self.watching = Watching(
            config.state_dir,
            on_hint=self.hint,
            on_lost=self.lost,
            on_death=lambda why: on_death("the watcher", why),
            on_step=self.beat,
        )
        self.errands: list[Errand] = []
        """what else is to be done now and then"""
        self.activity = ""
        """what it does apart from any repository"""
        self._bulk = Bulk(on_battery=config.limits.on_battery, memory_pressure=config.limits.memory_pressure)
        self.bulk_waits: str | None = None
        self._ask_again = -math.inf
        self._sleep = Sleep()
        self._jobs = Jobs(self)
        self.last_work = 0.0
        """when a job ended"""
        self.dirty_store = True
        """whether the store may be worth a checkpoint"""
        self._passed_over = 0.0
        """since when small work has been put before a long job that is due"""
        self.untidied = ""
        """why the last checkpoint failed"""
        self.incidents: list[Incident] = []
        """what was found damaged"""
        self.workspace: Workspace

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
                self._commands.append((command, work))
                self.changed.notify_all()
        return work

    def promise(self, work: Work) -> Callable[[], None]:
        """It fails when the engine ends before it is done; what is returned takes that back."""
        with self.changed:
            self._promised.add(work)
        return lambda: self._promised.discard(work)

    def check_alive(self) -> None:
        """Raises ReposyncError if nothing that is asked will be done. Under the lock."""
        if self._stopping:
            raise self._refusal()

    def _refusal(self) -> ReposyncError:
        if self._told:
            return ReposyncError("the service is stopping")
        return OverloadedError("the engine has died, and is started again; ask again in some seconds")

    def distrust_store(self) -> Work:
        """Somebody found the store damaged: it is to be looked at, and mended."""

        def command() -> dict[str, Any]:
            self.catalog.break_seal()
            with self.changed:
                for kept in self.kept.values():
                    if not kept.repo.paused:
                        kept.ready, kept.behind, kept.whole_due = False, True, time.monotonic()
            return {}

        return self.ask(command)

    @property
    def has_commands(self) -> bool:
        """Whether something was asked of it that is not done yet."""
        return bool(self._commands)

    @property
    def is_told_to_stop(self) -> bool:
        """Whether `stop` was called, and not only that it has ended."""
        return self._told

    @property
    def is_stopping(self) -> bool:
        """Whether it was told to stop."""
        return self._stopping

    def stop(self) -> None:
        """Ends it after the batches that are under way."""
        with self.changed:
            self._told = self._stopping = True
            self.changed.notify_all()

    def abandon(self) -> None:
        """Cuts off what the index process is doing. Nothing is lost: it is done again."""
        with suppress(AttributeError):  # it is still opening the state
            self.workspace.abandon()

    def beat(self) -> None:
        """The engine makes progress."""
        self._expected = time.monotonic() + self._stall_s + self.allowed_s

    @property
    def is_well(self) -> bool:
        """Whether it came by when it should have."""
        return time.monotonic() < self._expected

    @property
    def is_watcher_well(self) -> bool:
        """Whether the thread that reads file events takes up what there is."""
        return self.watching.stalled_s() < self._stall_s

    @property
    def is_index_well(self) -> bool:
        """Whether somebody looks after what the index process was asked."""
        workspace = getattr(self, "workspace", None)
        return workspace is None or workspace.index_stalled_s < self._stall_s

    def progress(self) -> dict[str, Any]:
        """What is still to do, as JSON."""
        with self.changed:
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
            with Workspace(self.config, self._environ, index=self._index, now_ns=self.now_ns) as self.workspace:
                self.workspace.look = self.watching.look
                self.workspace.on_index_death = lambda why: self._on_death("the index process", why)
                with self.workspace.state_lock():
                    self._begin()
                    self._on_ready()
                    while job := self._next():
                        self.beat()
                        job()
                self._end()
        except BaseException as error:
            ended = error
            self._fail(error)
        finally:
            self.watching.close()
            self._refuse_all(ended)
            self._on_end(ended)

    def _begin(self) -> None:
        self.watching.ensure()
        self.workspace.open()
        self.incidents = self.catalog.incidents()
        self.chronicle.incidents(self.incidents)
        for repo in self.catalog.repos():
            self.keep(repo)

    def _fail(self, error: BaseException) -> None:
        """It is visible that nothing is kept any more."""
        with self.changed:
            self.activity = "failed"
            for kept in self.kept.values():
                kept.running, kept.progress, kept.trouble = None, None, ""
                kept.failure = f"the engine has died: {described(error)}"

    def _end(self) -> None:
        for kept in self.kept.values():
            if kept.sync:
                kept.sync.end(InterruptedSyncError("the service was stopped; it goes on from there"))

    def _refuse_all(self, ended: BaseException | None) -> None:
        with self.changed:
            self._stopping = True
            works = [work for _, work in self._commands]
            self._commands.clear()
            works += self._promised
            for kept in self.kept.values():
                works += [*kept.syncs, *kept.flushes]
                kept.syncs, kept.flushes = [], []
        error = ended if isinstance(ended, ReposyncError) else self._refusal()
        for work in works:
            work.fail(error)

    def _next(self) -> Callable[[], None] | None:
        """Waits for the next job; None: it is to stop."""
        with self.changed:
            while not self._stopping:
                now = time.monotonic()
                if self._sleep.was_suspended():
                    for kept in self.kept.values():
                        kept.whole_due = min(kept.whole_due, now)
                job, when = self._choose(now)
                if job:
                    return job
                self._expected = when + self._stall_s
                self.changed.wait(max(0.0, when - now))
        return None

    def _choose(self, now: float) -> tuple[Callable[[], None] | None, float]:
        """The job that is due, or when one may be."""
        if self._commands:
            command, work = self._commands.popleft()
            return lambda: self._obey(command, work), now
        wake = now + TICK_S
        due: list[tuple[int, float, Kept, Scope, float]] = []
        for kept in self.kept.values():
            when, scope, stretch = self._next_of(kept, now)
            if when <= now:
                due.append((self._rank(kept, scope), when, kept, scope, stretch))
            else:
                wake = min(wake, when)
        due.sort(key=lambda each: each[:2])
        errand = min(self.errands, key=lambda each: each.due, default=None)
        large = next((each for each in due if each[0] > _SMALL), None)
        if not large or large is due[0]:
            self._passed_over = now
        if errand and errand.due <= now and not (due and due[0][0] == _SMALL):
            return partial(self._run, errand), now
        if large and now > self._passed_over + STARVED_S:
            due.insert(0, large)
        for rank, _, kept, scope, stretch in due:
            if rank < _BULK or not self.has_to_wait(now):
                return partial(self._jobs.bring, kept, scope, stretch), now
            wake = min(wake, self._ask_again)
        if errand:
            wake = min(wake, errand.due)
        if self.dirty_store and not due:
            if now - self.last_work >= QUIET_S:
                return self._jobs.tidy, now
            wake = min(wake, self.last_work + QUIET_S)
        return None, wake

    def _next_of(self, kept: Kept, now: float) -> tuple[float, Scope, float]:
        """(when, what, by how much its settle time is stretched)"""
        when, scope = kept.next(now, 1.0)
        if -math.inf < when <= now and not scope.is_whole and is_busy(kept.repo.root):
            return (*kept.next(now, GIT_STRETCH), GIT_STRETCH)
        return when, scope, 1.0

    def _rank(self, kept: Kept, scope: Scope) -> int:
        """Small work first, then looks at trees that are indexed already, then first indexes."""
        if not scope.is_whole:
            return _SMALL
        return _WHOLE if kept.indexed or kept.syncs else _BULK

    def has_to_wait(self, now: float) -> bool:
        """Whether first indexes may not go on for now. Under the lock."""
        if now >= self._ask_again:
            self.bulk_waits, self._ask_again = self._bulk.reason_to_wait(), now + ASK_AGAIN_S
        return self.bulk_waits is not None

    def _obey(self, command: Callable[[], dict[str, Any]], work: Work) -> None:
        self.workspace.index.on_wait = lambda waiting: self.beat()
        try:
            work.done(command())
        except ReposyncError as error:
            work.fail(error)
        except Exception as error:
            say_unexpected("a command", error)
            work.fail(ReposyncError(f"internal error: {described(error)}"))

    def _run(self, errand: Errand) -> None:
        self.workspace.index.on_wait = lambda waiting: self.beat()
        try:
            errand.run()
        except Exception as error:
            say_unexpected(type(errand).__name__.lower(), error)
            errand.due = max(errand.due, time.monotonic() + RETRY_S)

    def reconfigure(self, config: Config) -> dict[str, Any]:
        """From now on all is as this configuration has it, but for where the state is. A command."""
        before, self.config = self.config, config
        self._bulk = Bulk(on_battery=config.limits.on_battery, memory_pressure=config.limits.memory_pressure)
        self._ask_again = -math.inf
        self._jobs.reconfigure()
        # What is true of a tree may be another thing from now on.
        changed = [name for name in _OF_THE_INDEX if getattr(before, name) != getattr(config, name)]
        if changed:
            self.workspace.reconfigure(config)
        for errand in self.errands:
            errand.reconfigured()
        now = time.monotonic()
        for kept in self.kept.values():
            if changed and kept.sync:
                kept.sync.end(InterruptedSyncError("the configuration was changed; it goes on from there"))
                kept.sync = None
            with self.changed:
                kept.debounce.reconfigure(config.watch.settle, config.watch.max_wait)
                if not kept.repo.paused:
                    kept.whole_due = now
                    if changed:
                        kept.ready, kept.behind = False, True
        return {"changed": changed}

    # All repos --------------------------------------------------------------------------------------------

    @property
    def catalog(self) -> Catalog:
        """The repos on record."""
        return self.workspace.catalog

    def keep(self, repo: Repo) -> Kept:
        """From now on the repo is kept current."""
        watch = self.config.watch
        kept = Kept(
            repo,
            Debounce(watch.settle, watch.max_wait),
            Debounce(AGAIN_S, AGAIN_AT_MOST_S),
            whole_due=math.inf if repo.paused else time.monotonic(),
        )
        kept.stored = self._jobs.stored(kept, thorough=True)
        for run in self.workspace.runs(repo):
            if run.outcome == "done" and run.finished_ns:
                kept.synced_at, kept.indexed = run.finished_ns / 1e9, True
                break
        with self.changed:
            self.kept[repo.name] = self._by_root[repo.root] = kept
            self.changed.notify_all()
        return kept

    def let_go(self, kept: Kept) -> None:
        """The repo is kept no longer."""
        with self.changed:
            self.kept.pop(kept.repo.name, None)
            self._by_root.pop(kept.repo.root, None)
            self.chronicle.forget(kept.repo.root)
            for flush in kept.flushes:
                flush.is_current(kept.repo.name)  # there is no index to be behind
        for work in kept.syncs:
            work.fail(ReposyncError(f'the repository "{kept.repo.name}" was removed'))
        if kept.sync:
            kept.sync.end(InterruptedSyncError("the repository was removed"))
        self.watching.drop(kept.repo.root)

    def drop_removed(self) -> None:
        """Deletes the collections of removed repos, and forgets those. Raises a StoreError."""
        for repo in self.catalog.removed():
            self.workspace.move_seal()
            for generation in self.catalog.generations(repo):
                self.workspace.index.drop(generation.collection)
            self.catalog.forget_repo(repo)
            self.workspace.seal()
            self.dirty_store = True


_OF_THE_INDEX = ("index", "embedding", "lock", "store", "limits")
"""Sections of the configuration of which something is held for as long as the state is open."""

_SMALL, _WHOLE, _BULK = 0, 1, 2
"""Ranks of jobs."""
