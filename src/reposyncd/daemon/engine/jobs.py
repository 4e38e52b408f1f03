"""What the engine does: brings a repository up to date, and makes_checkpoints the store. On the engine's thread."""

from __future__ import annotations

import math
import os
import random
import time
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

from reposyncd.daemon.engine.repo_state import Coverage, Pace, RepoState, Stored
from reposyncd.daemon.engine.schedule import overdue
from reposyncd.daemon.events import NOT_TIDIED, say, say_unexpected
from reposyncd.daemon.resources import Rate, return_memory
from reposyncd.errors import (
    InterruptedSyncError,
    RefusedRootError,
    ReposyncError,
    RootMissingError,
    StoreError,
    WholeTreeNeededError,
    safe_message,
)
from reposyncd.model import Progress, Scope, SyncResult
from reposyncd.store.manifest.catalog import Repo
from reposyncd.sync.repos import find
from reposyncd.sync.runner import Sync, SyncRunner

if TYPE_CHECKING:
    from reposyncd.daemon.engine.loop import Engine

MISSING_S = 5.0
"""Between two looks for a root that is gone."""

RETRY_S = 60.0
"""Between two tries of something that failed for good, since the cause may be gone."""

BULK_SHARE = 4
"""A long job goes on for so many times as long as it took to take it up again, before other work is put before it."""

BULK_AT_LEAST_S = 0.5
"""And at least for so long."""

LOOK_S = 0.05
"""Between two looks at whether other work is to be put before a long job."""

TIDY_S = 3600.0
"""How long one step of tidying the store may take: gigabytes are copied, at the lowest priority, on a slow disk."""

SPREAD = 0.25
"""The time between two looks at a whole tree varies by this share, so that many repositories do not look at once."""


class Jobs:
    """The jobs of an engine, one at a time. What is known of a repo is changed under the engine's lock."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._rate = Rate(engine.config.limits.rate)
        self._began = self._ready = self._last_look = 0.0
        """of the job under way: when it began, and when it had found out what there is to do"""
        self._asked_for = False
        """whether somebody waits for the long job that is under way"""
        self._checkpoint_failure = ""
        """why the store could not be tidied, for all that is known by now"""
        self._number: int | None = None
        """of the last job in the history"""

    def reconfigure(self) -> None:
        """The engine's configuration was changed."""
        self._rate = Rate(self._engine.config.limits.rate)

    def bring(self, kept: RepoState, scope: Scope, stretch: float) -> None:
        """Brings a part of a tree, or all of it, up to date."""
        now = time.monotonic()
        if self._engine.watching.ensure():
            self._engine.look_everywhere()  # and watch
        with self._engine.changed:
            from_events = len(kept.debounce) > 0 or scope.is_whole
            scope = kept.take(scope, now, stretch)
            flushes, kept.flushes = kept.flushes, []
            syncs, kept.syncs = (kept.syncs, []) if scope.is_whole else ([], kept.syncs)
            self._asked_for = bool(syncs)
            kept.running, kept.progress, kept.pace = scope, Progress("scan"), None
        self._engine.on_change()
        try:
            result, error = self._try(kept, scope)
            self._after(kept, scope, result, error, from_events=from_events)
            if scope.is_whole:
                return_memory()
            if result is not None:
                self._engine.transitions.synced(kept, scope, result, self._number)
        except BaseException:  # the engine ends, and tells those who wait
            with self._engine.changed:
                kept.flushes[:0], kept.syncs[:0] = flushes, syncs
            raise
        with self._engine.changed:
            kept.running, kept.progress, kept.trouble = None, None, ""
            self._engine.transitions.state(kept)
            if error is None:
                unindexed = [asdict(each) for each in kept.unindexed.values()]
                for flush in flushes:
                    flush.is_current(kept.repo.name, unindexed)
                for work in syncs:
                    assert result is not None  # noqa: S101 - a sync is of the whole tree
                    work.done(result.to_dict())
            elif isinstance(error, InterruptedSyncError | WholeTreeNeededError):
                kept.flushes[:0], kept.syncs[:0] = flushes, syncs
            else:
                for work in [*flushes, *syncs]:
                    work.fail(error)
        self._engine.last_work = time.monotonic()
        self._engine.on_change()

    def _try(self, kept: RepoState, scope: Scope) -> tuple[SyncResult | None, ReposyncError | None]:
        """What came of it; nothing of an empty scope."""
        try:
            return self._sync(kept, scope) if scope else None, None
        except ReposyncError as raised:
            return None, raised
        except Exception as raised:
            say_unexpected(f"the sync of {kept.repo.name}", raised)
            return None, ReposyncError(f"internal error: {safe_message(raised)}; the log says where")

    def _sync(self, kept: RepoState, scope: Scope) -> SyncResult:
        if not os.path.isdir(kept.repo.root):
            raise RootMissingError(f"{kept.repo.root} is not there; its index is kept")
        self._engine.workspace.check_root(kept.repo)
        is_bulk = scope.is_whole
        self._number = None
        self._began = self._ready = time.monotonic()
        if not is_bulk:
            return Sync(self._runner(kept, is_bulk), full=False).run(scope)
        if kept.sync and kept.read_all:
            kept.sync.end(InterruptedSyncError("a full sync was asked for, which does the same and more"))
            kept.sync = None
        if kept.sync is None:
            kept.sync, kept.read_all = Sync(self._runner(kept, is_bulk), full=kept.read_all), False
        result = kept.sync.run()
        self._number = kept.sync.number
        kept.sync = None
        return result

    def _runner(self, kept: RepoState, is_bulk: bool) -> SyncRunner:
        def on_progress(progress: Progress) -> None:
            self._engine.heartbeat()
            if progress.phase == "index" and self._ready == self._began:
                self._ready = time.monotonic()
            if progress.phase != "index":
                kept.pace = None
            elif kept.pace is None:
                kept.pace = Pace(time.monotonic(), progress.files_done, progress.chunks_done)
            if progress.phase == "index":
                kept.ready = True  # whatever comes next, a part of the tree can be put before the rest
                if kept.stored.collection is None or progress.chunks_done != (kept.progress or progress).chunks_done:
                    kept.stored = self.stored(kept)  # what is there by now can be searched
            kept.progress = progress
            if progress.trouble and not kept.trouble:
                kept.trouble_since = time.monotonic()
            kept.trouble = progress.trouble
            if progress.trouble:
                with self._engine.changed:
                    self._engine.transitions.state(kept)

        return self._engine.workspace.runner(
            lambda: self._find(kept),
            lock=lambda: nullcontext(),
            patience_s=math.inf,
            on_progress=on_progress,
            should_stop=partial(self._should_stop_bulk if is_bulk else self._should_stop, kept),
            makes_checkpoints=False,
            throttle=partial(self._pace, kept) if is_bulk else lambda chunks: None,
        )

    def _find(self, kept: RepoState) -> Repo:
        """The repo on record; on record again, if the manifest was made anew."""
        repo = find(self._engine.catalog, kept.repo.root, None)
        if repo is None:
            repo = self._engine.catalog.add_repo(kept.repo.name, kept.repo.root, kept.repo.identity)
        if kept.repo.paused and not repo.paused:
            repo = self._engine.catalog.set_paused(repo, True)
        kept.repo = repo
        return repo

    def _should_stop(self, kept: RepoState) -> bool:
        self._engine.heartbeat()
        if self._engine.is_stopping or (self._engine.inbox and kept.trouble):
            return True
        return self._only_waits(kept) and self._is_other_work_due(kept)

    def _should_stop_bulk(self, kept: RepoState) -> bool:
        """Whether other work is to be put before a long job."""
        now = time.monotonic()
        self._engine.heartbeat()
        if self._engine.is_stopping:
            return True
        taken_up = max(self._ready - self._began, BULK_AT_LEAST_S)
        is_early = now < self._ready + BULK_SHARE * taken_up and not self._only_waits(kept)
        if now < self._last_look + LOOK_S or is_early:
            return False
        self._last_look = now
        with self._engine.changed:
            if not (kept.indexed or self._asked_for) and self._engine.bulk.may_go_on(now) > now:
                return True
        return self._is_other_work_due(kept)

    def _only_waits(self, kept: RepoState) -> bool:
        """Whether a file is being cut that takes long, and the job can do nothing else: it loses nothing by making way,
        since the chunking process goes on."""
        return kept.progress is not None and bool(kept.progress.cutting)

    def _is_other_work_due(self, kept: RepoState) -> bool:
        """Whether there is something small to be done, or asked."""
        now = time.monotonic()
        with self._engine.changed:
            if self._engine.inbox or overdue(self._engine.periodic_tasks, now):
                return True
            return any(
                other.next(now, 1.0)[0] <= now and not other.next(now, 1.0)[1].is_whole
                for other in self._engine.kept.values()
                if other.is_small or other is not kept
            )

    def _pace(self, kept: RepoState, chunks: int) -> None:
        """Waits as long as `limits.rate` has it, or until the job is to make way."""
        until = time.monotonic() + self._rate.delay_s(chunks, time.monotonic())
        while (left := until - time.monotonic()) > 0 and not self._should_stop_bulk(kept):
            time.sleep(min(left, LOOK_S))

    def _after(
        self, kept: RepoState, scope: Scope, result: SyncResult | None, error: ReposyncError | None, from_events: bool
    ) -> None:
        """What is known of the repo, and what is to be done with it, after a job."""
        now = time.monotonic()
        try:
            self._read_back(kept, is_current=error is None)
        except StoreError as raised:  # the next job meets it too, and deals with it
            error = error or raised
        watch, before = self._engine.config.watch, kept.coverage
        coverage = self._engine.watching.coverage(kept.repo.root) if scope and error is None else before
        with self._engine.changed:
            kept.coverage = coverage
            if coverage.mode == "poll" != before.mode:
                kept.whole_due = min(kept.whole_due, now + watch.poll)
            if error is None:
                kept.failure, kept.missing = "", False
                if result is not None:
                    kept.note_unindexed(scope, result.errors, now, watch.reconcile)
                if scope:
                    kept.synced_at = self._engine.now_ns() / 1e9
                    self._engine.dirty_store = self._engine.dirty_store or (result is not None and not result.is_empty)
                if scope.is_whole:
                    kept.last, kept.ready, kept.behind, kept.indexed = result, True, False, True
                    every = watch.reconcile if coverage.mode == "inotify" else watch.poll
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
        if isinstance(error, RootMissingError | RefusedRootError) or kept.repo.paused:
            self._engine.watching.drop(kept.repo.root)
        if kept.sync and error is not None and not isinstance(error, InterruptedSyncError):
            kept.sync.end(error)
            kept.sync = None

    def _read_back(self, kept: RepoState, *, is_current: bool) -> None:
        """What is on record after a job. Raises a StoreError."""
        self._find(kept)
        if is_current and kept.repo.missing_s:
            kept.repo = self._engine.catalog.set_missing(kept.repo, 0.0)
        on_record = {repo.root: repo.id for repo in self._engine.catalog.repos()}
        for other in self._engine.kept.values():
            if on_record.get(other.repo.root) != other.repo.id:  # the manifest was made anew
                self._find(other)
        stored = self.stored(kept)
        incidents, unchecked = self._engine.catalog.incidents(), self._engine.catalog.unchecked()
        with self._engine.changed:
            self._engine.transitions.incidents(incidents)
            kept.stored, self._engine.incidents = stored, incidents
            for other in self._engine.kept.values():
                # The store was made anew, or somebody else wrote to it.
                if other.ready and other is not kept and other.repo.root in unchecked:
                    other.ready, other.behind, other.whole_due = False, True, time.monotonic()

    def _is_missing(self, kept: RepoState, why: str, now: float) -> None:
        if not kept.missing:
            kept.missing_since = now
        kept.missing, kept.failure, kept.ready, kept.behind = True, why, False, True
        kept.forget_dirty()
        kept.coverage = Coverage()
        kept.whole_due = now + MISSING_S

    def stored(self, kept: RepoState) -> Stored:
        """What the index has of a repo. Raises a StoreError."""
        serving = [each for each in self._engine.catalog.generations(kept.repo) if each.state == "serving"]
        if not serving:
            return Stored()
        [generation] = serving
        verdicts = tuple(self._engine.workspace.manifest(generation).verdicts())
        collection, embedder = self._engine.workspace.target(kept.repo, generation) or (None, "")
        is_outdated = generation.fingerprint != self._engine.workspace.fingerprint
        return Stored(collection, generation.files, generation.chunks, verdicts, embedder, is_outdated)

    def checkpoint(self) -> None:
        """A checkpoint, if one is due. Anything else is put before it."""
        runner = self._engine.workspace.runner(
            lambda: next(iter(self._engine.kept.values())).repo,
            lock=lambda: nullcontext(),
            patience_s=0,
            on_progress=self._on_tidying,
            should_stop=self._anything_due,
        )
        self._engine.allowed_s = TIDY_S
        self._checkpoint_failure = ""
        try:
            is_known = self._engine.workspace.is_store_known
            if runner.checkpoint(runner.on_progress) and is_known:
                self._engine.workspace.stamp()
        except (StoreError, OSError) as error:
            self._checkpoint_failure = f"the checkpoint of the store failed: {error}"
        finally:
            self._engine.allowed_s = 0.0
            self._engine.heartbeat()
        if self._checkpoint_failure and self._checkpoint_failure != self._engine.checkpoint_failure:
            say(NOT_TIDIED, reason=self._checkpoint_failure)
        self._engine.activity, self._engine.checkpoint_failure = "", self._checkpoint_failure
        return_memory()
        self._engine.dirty_store = self._anything_due()
        self._engine.last_work = time.monotonic()

    def _on_tidying(self, progress: Progress) -> None:
        self._engine.activity = "tidying the store"
        self._checkpoint_failure = progress.trouble

    def _anything_due(self) -> bool:
        now = time.monotonic()
        self._engine.heartbeat()
        with self._engine.changed:
            return (
                self._engine.is_stopping
                or bool(self._engine.inbox)
                or any(kept.next(now, 1.0)[0] <= now for kept in self._engine.kept.values())
            )
