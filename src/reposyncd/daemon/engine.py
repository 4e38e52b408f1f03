"""The engine: the one thread that writes. It decides what is done next, and does it."""

from __future__ import annotations

import math
import os
import random
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from typing import Any, Protocol

from reposyncd.assemble import Workspace
from reposyncd.config import Config
from reposyncd.daemon.gentle import Bulk, Rate, Sleep
from reposyncd.daemon.kept import Kept, Stored
from reposyncd.daemon.tickets import Work
from reposyncd.daemon.watching import Watching
from reposyncd.errors import (
    InterruptedSyncError,
    ReposyncError,
    RootMissingError,
    StoreError,
    WholeTreeNeededError,
)
from reposyncd.model import Progress, Scope, SyncResult
from reposyncd.ports import VectorIndex
from reposyncd.store.catalog import Catalog, Incident, Repo
from reposyncd.sync.debounce import Debounce
from reposyncd.sync.repos import find
from reposyncd.sync.upkeep import Sync, Upkeep
from reposyncd.tree.gitdir import is_busy

TICK_S = 60.0
"""Between two looks at the clocks, which tell whether the machine was asleep."""

GIT_STRETCH = 4.0
"""The settle time is so many times longer while git is at work: it has more to write."""

MISSING_S = 5.0
"""Between two looks for a root that is gone."""

RETRY_S = 60.0
"""Between two tries of something that failed for good, since the cause may be gone."""

BULK_SHARE = 4
"""A long job goes on for so many times as long as it took to take it up again, before other work is put before it."""

BULK_AT_LEAST_S = 0.5
"""And at least for so long."""

STARVED_S = 10.0
"""A long job that other work was put before for so long has its turn."""

QUIET_S = 10.0
"""Without work before a checkpoint is thought of."""

LOOK_S = 0.05
"""Between two looks at whether other work is to be put before a long job."""

ASK_AGAIN_S = 30.0
"""Between two looks at whether a long job has to wait for the battery or for memory."""

AGAIN_S = 4.0
"""After a change its directories are looked at once more, when their times are old enough to be proof."""

AGAIN_AT_MOST_S = 60.0
"""And at the latest after so long, if changes go on."""

SPREAD = 0.25
"""The time between two looks at a whole tree varies by this share, so that many repositories do not look at once."""


class Errand(Protocol):
    """Something that the engine does now and then, between jobs."""

    due: float
    """when, on the monotonic clock"""

    def run(self) -> None:
        """Does it, and sets when it is due again."""


class Engine(threading.Thread):
    """Keeps the repositories of a state directory current until it is told to stop. Holds the state lock for its life.

    `ask`, `hint`, `lost`, `stop` and what is read under `changed` are for any thread; everything else is the engine
    thread's. `on_end` is called once, with what ended it, or None after `stop`.
    """

    def __init__(
        self,
        config: Config,
        environ: Mapping[str, str],
        *,
        on_ready: Callable[[], None],
        on_end: Callable[[BaseException | None], None],
        index: VectorIndex | None = None,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        super().__init__(name="engine", daemon=True)
        self._now_ns = now_ns
        self.config = config
        self._environ = environ
        self._index = index
        self._on_ready = on_ready
        self._on_end = on_end
        self.changed = threading.Condition(threading.RLock())
        self.kept: dict[str, Kept] = {}
        """by name"""
        self._by_root: dict[str, Kept] = {}
        self._commands: deque[tuple[Callable[[], dict[str, Any]], Work]] = deque()
        self._stopping = False
        self.events_lost = 0
        """times that everything had to be looked at, because events were lost"""
        self.watching = Watching(config.state_dir, on_hint=self.hint, on_lost=self.lost)
        self.errands: list[Errand] = []
        """what else is to be done now and then"""
        self.activity = ""
        """what it does apart from any repository"""
        self._bulk = Bulk(on_battery=config.limits.on_battery, memory_pressure=config.limits.memory_pressure)
        self.bulk_waits: str | None = None
        self._ask_again = -math.inf
        self._rate = Rate(config.limits.rate)
        self._sleep = Sleep()
        self._job_began = self._job_ready = self._last_look = self._last_work = 0.0
        self._dirty_store = True
        self._asked_for = False
        """whether somebody waits for the long job that is being done"""
        self._passed_over = 0.0
        """since when small work has been put before a long job that is due"""
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
        with self.changed:
            self.events_lost += 1
            self._look_everywhere()

    def _look_everywhere(self) -> None:
        with self.changed:
            for kept in self.kept.values():
                if not kept.repo.paused:
                    kept.debounce.add("", True, time.monotonic())
            self.changed.notify_all()

    def ask(self, command: Callable[[], dict[str, Any]]) -> Work:
        """Has the engine do something between two jobs."""
        work = Work(self.progress)
        with self.changed:
            if self._stopping:
                work.fail(ReposyncError("the service is stopping"))
            else:
                self._commands.append((command, work))
                self.changed.notify_all()
        return work

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
    def is_stopping(self) -> bool:
        """Whether it was told to stop."""
        return self._stopping

    def stop(self) -> None:
        """Ends it after the batches that are under way."""
        with self.changed:
            self._stopping = True
            self.changed.notify_all()

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
            with Workspace(self.config, self._environ, index=self._index, now_ns=self._now_ns) as self.workspace:
                self.workspace.look = self.watching.look
                with self.workspace.state_lock():
                    self._begin()
                    self._on_ready()
                    while job := self._next():
                        job()
                self._end()
        except BaseException as error:
            ended = error
        finally:
            self.watching.close()
            self._refuse_all(ended)
            self._on_end(ended)

    def _begin(self) -> None:
        self.watching.ensure()
        self.workspace.open()
        self.incidents = self.catalog.incidents()
        for repo in self.catalog.repos():
            self.keep(repo)

    def _end(self) -> None:
        for kept in self.kept.values():
            if kept.sync:
                kept.sync.end(InterruptedSyncError("the service was stopped; it goes on from there"))

    def _refuse_all(self, ended: BaseException | None) -> None:
        with self.changed:
            self._stopping = True
            works = [work for _, work in self._commands]
            self._commands.clear()
            for kept in self.kept.values():
                works += [*kept.syncs, *kept.flushes]
                kept.syncs, kept.flushes = [], []
        for work in works:
            work.fail(ended if isinstance(ended, ReposyncError) else ReposyncError("the service has stopped"))

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
            if rank < _BULK or not self._has_to_wait(now):
                return partial(self._do, kept, scope, stretch), now
            wake = min(wake, self._ask_again)
        if errand:
            wake = min(wake, errand.due)
        if self._dirty_store and not due:
            if now - self._last_work >= QUIET_S:
                return self._tidy, now
            wake = min(wake, self._last_work + QUIET_S)
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

    def _has_to_wait(self, now: float) -> bool:
        if now >= self._ask_again:
            self.bulk_waits, self._ask_again = self._bulk.reason_to_wait(), now + ASK_AGAIN_S
        return self.bulk_waits is not None

    def _obey(self, command: Callable[[], dict[str, Any]], work: Work) -> None:
        try:
            work.done(command())
        except ReposyncError as error:
            work.fail(error)
        except Exception as error:
            _report()
            work.fail(ReposyncError(f"internal error: {error!r}"))

    def _run(self, errand: Errand) -> None:
        try:
            errand.run()
        except Exception:
            _report()
            errand.due = max(errand.due, time.monotonic() + RETRY_S)

    # One repo ---------------------------------------------------------------------------------------------

    def _do(self, kept: Kept, scope: Scope, stretch: float) -> None:
        """Brings a part of a tree, or all of it, up to date."""
        now = time.monotonic()
        if self.watching.ensure():
            self._look_everywhere()  # and watch
        with self.changed:
            from_events = len(kept.debounce) > 0 or scope.is_whole
            scope = kept.take(scope, now, stretch)
            flushes, kept.flushes = kept.flushes, []
            syncs, kept.syncs = (kept.syncs, []) if scope.is_whole else ([], kept.syncs)
            self._asked_for = bool(syncs)
            kept.running, kept.progress = scope, Progress("scan")
        error: ReposyncError | None = None
        result: SyncResult | None = None
        try:
            if scope:
                result = self._sync(kept, scope)
        except ReposyncError as raised:
            error = raised
        except Exception as raised:
            _report()
            error = ReposyncError(f"internal error: {raised!r}")
        self._after(kept, scope, result, error, from_events=from_events)
        with self.changed:
            kept.running, kept.progress, kept.trouble = None, None, ""
            if error is None:
                for flush in flushes:
                    flush.is_current(kept.repo.name, [asdict(each) for each in result.errors] if result else [])
                for work in syncs:
                    assert result is not None  # noqa: S101 - a sync is of the whole tree
                    work.done(result.to_dict())
            elif isinstance(error, InterruptedSyncError | WholeTreeNeededError):
                kept.flushes[:0], kept.syncs[:0] = flushes, syncs
            else:
                for work in [*flushes, *syncs]:
                    work.fail(error)
        self._last_work = time.monotonic()

    def _sync(self, kept: Kept, scope: Scope) -> SyncResult:
        if not os.path.isdir(kept.repo.root):
            raise RootMissingError(f"{kept.repo.root} is not there; its index is kept")
        self.workspace.move_seal()
        is_bulk = scope.is_whole
        self._job_began = self._job_ready = time.monotonic()
        if not is_bulk:
            return Sync(self._upkeep(kept, is_bulk), full=False).run(scope)
        if kept.sync is None or kept.read_all:
            kept.sync = Sync(self._upkeep(kept, is_bulk), full=kept.read_all)
        result = kept.sync.run()
        kept.sync, kept.read_all = None, False
        return result

    def _upkeep(self, kept: Kept, is_bulk: bool) -> Upkeep:
        def on_progress(progress: Progress) -> None:
            if progress.phase == "index" and self._job_ready == self._job_began:
                self._job_ready = time.monotonic()
            if progress.phase == "index":
                kept.ready = True  # whatever comes next, a part of the tree can be put before the rest
                if kept.stored.collection is None:
                    kept.stored = self._stored(kept, thorough=False)  # what is there by now can be searched
            kept.progress = progress
            if progress.trouble and not kept.trouble:
                kept.trouble_since = time.monotonic()
            kept.trouble = progress.trouble

        return self.workspace.upkeep(
            lambda: self._find(kept),
            lock=lambda: nullcontext(),
            patience_s=math.inf,
            on_progress=on_progress,
            should_stop=partial(self._should_stop_bulk if is_bulk else self._should_stop, kept),
            tidies=False,
            pace=self._pace if is_bulk else lambda chunks: None,
        )

    def _find(self, kept: Kept) -> Repo:
        """The repo on record; on record again, if the manifest was made anew."""
        repo = find(self.catalog, kept.repo.root, None)
        if repo is None:
            repo = self.catalog.add_repo(kept.repo.name, kept.repo.root, kept.repo.identity)
            if kept.repo.paused:
                repo = self.catalog.set_paused(repo, True)
        kept.repo = repo
        return repo

    def _should_stop(self, kept: Kept) -> bool:
        return self._stopping or (bool(self._commands) and bool(kept.trouble))

    def _should_stop_bulk(self, kept: Kept) -> bool:
        """Whether other work is to be put before a long job."""
        now = time.monotonic()
        if self._stopping:
            return True
        taken_up = max(self._job_ready - self._job_began, BULK_AT_LEAST_S)
        if now < self._last_look + LOOK_S or now < self._job_ready + BULK_SHARE * taken_up:
            return False
        self._last_look = now
        with self.changed:
            if not (kept.indexed or self._asked_for) and self._has_to_wait(now):
                return True
            return bool(self._commands) or any(
                other.next(now, 1.0)[0] <= now and not other.next(now, 1.0)[1].is_whole
                for other in self.kept.values()
                if other.is_small or other is not kept
            )

    def _pace(self, chunks: int) -> None:
        until = time.monotonic() + self._rate.delay_s(chunks, time.monotonic())
        while (left := until - time.monotonic()) > 0 and not self._stopping:
            time.sleep(min(left, LOOK_S))

    def _after(
        self, kept: Kept, scope: Scope, result: SyncResult | None, error: ReposyncError | None, from_events: bool
    ) -> None:
        """What is known of the repo, and what is to be done with it, after a job."""
        now = time.monotonic()
        try:
            self._read_back(kept, thorough=scope.is_whole or bool(result and result.errors), is_current=error is None)
        except StoreError as raised:  # the next job meets it too, and deals with it
            error = error or raised
        coverage = self.watching.coverage(kept.repo.root) if scope.is_whole and error is None else kept.coverage
        with self.changed:
            kept.coverage = coverage
            if error is None:
                kept.failure, kept.missing = "", False
                if scope:
                    kept.synced_at = self._now_ns() / 1e9
                    self._dirty_store = self._dirty_store or (result is not None and not result.is_empty)
                if scope.is_whole:
                    kept.last, kept.ready, kept.behind, kept.indexed = result, True, False, True
                    every = self.config.watch.reconcile if coverage.mode == "inotify" else self.config.watch.poll
                    kept.whole_due = now + every * (1 + SPREAD * (random.random() - 0.5))  # noqa: S311 - no secret
                if from_events and result and not (scope.is_whole and result.is_empty):
                    kept.later.add_all(scope, now)
            elif isinstance(error, InterruptedSyncError):
                if scope.is_whole:
                    kept.whole_due, kept.behind = now, True
                else:
                    kept.debounce.add_all(scope, now)
            elif isinstance(error, WholeTreeNeededError):
                kept.whole_due, kept.ready, kept.behind = now, False, True
            elif isinstance(error, RootMissingError):
                self._is_missing(kept, str(error), now)
            else:
                kept.failure, kept.ready, kept.behind = str(error), False, True
                kept.whole_due = now + RETRY_S
        if isinstance(error, RootMissingError) or kept.repo.paused:
            self.watching.drop(kept.repo.root)
        if kept.sync and error is not None and not isinstance(error, InterruptedSyncError):
            kept.sync.end(error)
            kept.sync = None

    def _read_back(self, kept: Kept, *, thorough: bool, is_current: bool) -> None:
        """What is on record after a job. Raises a StoreError."""
        self._find(kept)
        if is_current and kept.repo.missing_s:
            kept.repo = self.catalog.set_missing(kept.repo, 0.0)
        stored = self._stored(kept, thorough=thorough)
        incidents, unchecked = self.catalog.incidents(), self.catalog.unchecked()
        with self.changed:
            kept.stored, self.incidents = stored, incidents
            for other in self.kept.values():
                # The store was made anew, or somebody else wrote to it.
                if other.ready and other is not kept and other.repo.root in unchecked:
                    other.ready, other.behind, other.whole_due = False, True, time.monotonic()

    def _is_missing(self, kept: Kept, why: str, now: float) -> None:
        if not kept.missing:
            kept.missing_since = now
        kept.missing, kept.failure, kept.ready, kept.behind = True, why, False, True
        kept.debounce.take_all()
        kept.coverage = type(kept.coverage)()
        kept.whole_due = now + MISSING_S

    def _stored(self, kept: Kept, *, thorough: bool) -> Stored:
        serving = [each for each in self.catalog.generations(kept.repo) if each.state == "serving"]
        if not serving:
            return Stored()
        [generation] = serving
        quarantined = kept.stored.quarantined
        if thorough:
            quarantined = tuple(self.workspace.manifest(generation).quarantined())
        usable = generation.fingerprint == self.workspace.fingerprint
        return Stored(generation.collection if usable else None, generation.files, generation.chunks, quarantined)

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
        kept.stored = self._stored(kept, thorough=True)
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
            works = [*kept.flushes, *kept.syncs]
        for work in works:
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
            self._dirty_store = True

    def _tidy(self) -> None:
        """A checkpoint, if one is due. Anything else is put before it."""
        upkeep = self.workspace.upkeep(
            lambda: next(iter(self.kept.values())).repo,
            lock=lambda: nullcontext(),
            patience_s=0,
            on_progress=self._on_tidying,
            should_stop=self._anything_due,
        )
        self.workspace.move_seal()
        try:
            if upkeep.tidy(upkeep.on_progress):
                self.workspace.seal()
        except (StoreError, OSError):
            _report()
        self.activity = ""
        self._dirty_store = self._anything_due()
        self._last_work = time.monotonic()

    def _on_tidying(self, progress: Progress) -> None:
        self.activity = progress.trouble or "tidying the store"

    def _anything_due(self) -> bool:
        now = time.monotonic()
        with self.changed:
            return (
                self._stopping
                or bool(self._commands)
                or any(kept.next(now, 1.0)[0] <= now for kept in self.kept.values())
            )


_SMALL, _WHOLE, _BULK = 0, 1, 2
"""Ranks of jobs."""


def _report() -> None:
    """What nobody expected, for who reads the log."""
    traceback.print_exc(file=sys.stderr)
