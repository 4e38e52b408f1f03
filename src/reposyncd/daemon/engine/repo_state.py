"""The state machine of one repository. Pure: no lock, no I/O, and the time is an argument.

Times are seconds on the monotonic clock unless stated otherwise.
"""

from __future__ import annotations

import math

from reposyncd.daemon.engine.snapshots import Coverage, NextSync, Pace, RepoCondition, RepoSnapshot, StartedSync, Stored
from reposyncd.daemon.engine.unreadable import Unreadable
from reposyncd.daemon.engine.work import Flush, Work
from reposyncd.model import WHOLE, Progress, Scope, SyncResult
from reposyncd.store.manifest.catalog import Repo
from reposyncd.sync.debounce import Debounce

RECHECK_S = 4.0
"""After a change, its directories are listed once more after this time. By then their time stamps can be trusted."""

RECHECK_AT_MOST_S = 60.0
"""They are listed again after this time at the latest, even if there are further changes."""

RETRY_S = 60.0
"""A sync that failed is tried again after this time: the cause may be gone."""

MISSING_S = 5.0
"""Time between two checks whether a missing root is back."""


class RepoState:
    """What is known about one repository, who waits for it, and what has to be done next.

    Only its methods change it, and each of them is one transition. Everybody may read its fields. It is not
    thread-safe: `RepoRegistry` owns it, and hands out snapshots.
    """

    def __init__(
        self,
        repo: Repo,
        *,
        settle_s: float,
        max_wait_s: float,
        now: float,
        stored: Stored | None = None,
        synced_at: float | None = None,
    ) -> None:
        """`synced_at`: seconds since the epoch; None if no first index was ever completed."""
        self.repo = repo
        self.changes = Debounce(settle_s, max_wait_s)
        """parts of the tree with changes"""
        self.recheck = Debounce(RECHECK_S, RECHECK_AT_MOST_S)
        """parts that are listed once more after a change"""
        self.unreadable = Unreadable()
        self.full_scan_due = math.inf if repo.paused else now
        self.can_sync_parts = False
        """whether a part of the tree can be synced without the rest"""
        self.needs_full_scan = True
        """whether only a full scan can make it current"""
        self.is_indexed = synced_at is not None
        """whether a first index was ever completed"""
        self.running: Scope | None = None
        self.progress: Progress | None = None
        self.pace: Pace | None = None
        self.waiting_for = ""
        self.waiting_since = 0.0
        self.failure = ""
        """why the last sync failed, or why the root is missing"""
        self.is_missing = False
        self.missing_counted = 0.0
        """until when `repo.missing_s` has been counted"""
        self.coverage = Coverage()
        self.stored = stored or Stored()
        self.last_full_sync: SyncResult | None = None
        self.synced_at = synced_at
        self.flushes: list[Flush] = []
        self.syncs: list[Work] = []

    # The present state ------------------------------------------------------------------------------------

    @property
    def _is_pending(self) -> bool:
        """Whether there are changes that are not in the index yet."""
        return self.needs_full_scan or len(self.changes) > 0

    @property
    def is_wanted(self) -> bool:
        """Whether something is under way or pending, or somebody waits."""
        return self._is_pending or self.running is not None or bool(self.flushes or self.syncs)

    @property
    def condition(self) -> RepoCondition:
        """The most urgent condition that applies."""
        if self.repo.paused and self.running is None:
            return RepoCondition("paused", "paused; resume with: reposyncd resume " + self.repo.name)
        if self.is_missing:
            return RepoCondition("missing", self.failure)
        if self.waiting_for:
            return RepoCondition("degraded", self.waiting_for, is_waiting=True)
        if self.failure:
            return RepoCondition("failed", self.failure)
        if self.running is not None:
            return RepoCondition("syncing")
        if self.coverage.reason:
            return RepoCondition("degraded", self.coverage.reason)
        return RepoCondition("pending" if self._is_pending else "current")

    def snapshot(self, number: int = 0) -> RepoSnapshot:
        """A frozen copy of everything."""
        return RepoSnapshot(
            repo=self.repo,
            number=number,
            condition=self.condition,
            stored=self.stored,
            coverage=self.coverage,
            running=self.running,
            progress=self.progress,
            pace=self.pace,
            waiting_for=self.waiting_for,
            waiting_since=self.waiting_since,
            failure=self.failure,
            is_missing=self.is_missing,
            is_indexed=self.is_indexed,
            unindexed=self.unreadable.errors,
            last_full_sync=self.last_full_sync,
            synced_at=self.synced_at,
            pending=len(self.changes),
            pending_since=self.changes.since,
            full_scan_due=self.full_scan_due,
        )

    # What comes next --------------------------------------------------------------------------------------

    @property
    def _is_full_scan_requested(self) -> bool:
        """Whether somebody waits for a result that needs a full scan."""
        can_flush_parts = self.can_sync_parts and self.coverage.mode == "inotify"
        return bool(self.syncs) or (bool(self.flushes) and not can_flush_parts)

    @property
    def has_only_parts(self) -> bool:
        """Whether nothing but parts of the tree has to be synced."""
        return self.can_sync_parts and not self.changes.is_whole

    def next_sync(self, now: float, stretch: float = 1.0) -> NextSync:
        """What to do next, and when. `stretch` multiplies the settle time."""
        when, scope = self._next(now, stretch)
        is_first = scope.is_whole and not (self.is_indexed or self.syncs)
        return NextSync(self.repo.name, self.repo.root, when, scope, stretch, is_first)

    def _next(self, now: float, stretch: float) -> tuple[float, Scope]:
        if self._is_full_scan_requested:
            return -math.inf, WHOLE
        if self.flushes:
            return -math.inf, WHOLE if self.full_scan_due <= now or self.changes.is_whole else Scope()
        if self.repo.paused:
            return math.inf, Scope()
        candidates = [(self.full_scan_due, WHOLE)]
        if self.can_sync_parts:
            for dirty, factor in ((self.changes, stretch), (self.recheck, 1.0), (self.unreadable.retry, 1.0)):
                if (due := dirty.due(factor)) is not None:
                    candidates.append((due, WHOLE if dirty.is_whole else Scope()))
        # If several are due, the smallest part goes first.
        return min(candidates, key=lambda each: (max(each[0], now), each[1].is_whole))

    # Events and requests ----------------------------------------------------------------------------------

    def hint(self, path: str, recursive: bool, now: float) -> bool:
        """The directory may have changed, and with `recursive` anything below it. Ignored while paused. Returns whether
        nothing was pending before."""
        if self.repo.paused:
            return False
        is_first = len(self.changes) == 0
        self.changes.add(path, recursive, now)
        return is_first

    def scan_soon(self, now: float) -> None:
        """Makes a full scan due now, without saying that it is needed."""
        self.full_scan_due = min(self.full_scan_due, now)

    def invalidate(self, now: float) -> None:
        """The store is damaged, so nothing is certain before a full scan. If the repository is paused, `resume` has the
        same effect."""
        if not self.repo.paused:
            self.require_full_scan(now)

    def require_full_scan(self, now: float) -> None:
        """Makes a full scan due now, without which the repository cannot become current."""
        self.full_scan_due, self.can_sync_parts, self.needs_full_scan = now, False, True

    def request_sync(self, work: Work) -> None:
        """Somebody waits for a full scan."""
        self.syncs.append(work)

    def request_flush(self, flush: Flush, *, has_seen_events: bool, now: float) -> None:
        """Somebody waits until every earlier change is indexed. `has_seen_events`: all earlier events have become
        hints; otherwise the whole tree is scanned."""
        if not has_seen_events:
            self.changes.add("", True, now)
        self.flushes.append(flush)

    def withdraw_requests(self) -> tuple[list[Flush], list[Work]]:
        """Returns the requests that somebody waits for, and forgets them."""
        flushes, self.flushes = self.flushes, []
        syncs, self.syncs = self.syncs, []
        return flushes, syncs

    # Configuration ----------------------------------------------------------------------------------------

    def pause(self, repo: Repo) -> None:
        """Stops updates until `resume`. `repo` is the repository as it is on record now."""
        self._set_paused(repo, math.inf)
        self.coverage = Coverage()

    def resume(self, repo: Repo, now: float) -> None:
        """Continues updates, beginning with a full scan."""
        self._set_paused(repo, now)

    def _set_paused(self, repo: Repo, full_scan_due: float) -> None:
        self.repo = repo
        self.require_full_scan(full_scan_due)
        self.is_missing, self.failure = False, ""  # the next scan finds out
        self._forget_dirty()

    def reconfigure(self, settle_s: float, max_wait_s: float, *, is_index_changed: bool, now: float) -> None:
        """Uses another configuration. `is_index_changed`: other files or chunks may belong in the index."""
        self.changes.reconfigure(settle_s, max_wait_s)
        if self.repo.paused:
            return
        self.full_scan_due = now
        if is_index_changed:
            self.require_full_scan(now)

    def record(self, *, repo: Repo | None = None, stored: Stored | None = None) -> None:
        """Sets the repository as it is on record now, or what the index has of it. None: unchanged."""
        self.repo = repo or self.repo
        self.stored = stored or self.stored

    def count_missing(self, now: float) -> float:
        """For how many more seconds it has been missing since the last call."""
        elapsed, self.missing_counted = now - self.missing_counted, now
        return elapsed

    # A sync -----------------------------------------------------------------------------------------------

    def begin(self, next_sync: NextSync, now: float) -> StartedSync:
        """Begins a sync, and passes it the requests that wait for its end."""
        is_change = len(self.changes) > 0 or next_sync.scope.is_whole
        scope = self._take(next_sync.scope, now, next_sync.stretch)
        flushes, self.flushes = self.flushes, []
        syncs: list[Work] = []
        if scope.is_whole:
            syncs, self.syncs = self.syncs, []
        self.running, self.progress, self.pace = scope, Progress("scan"), None
        return StartedSync(scope, is_change, flushes, syncs)

    def _take(self, scope: Scope, now: float, stretch: float) -> Scope:
        if scope.is_whole:
            self._forget_dirty()
            return WHOLE
        changed = self.changes.take_all() if self.flushes else self.changes.take(now, stretch)
        return (changed | self.recheck.take(now) | self.unreadable.retry.take(now)).without_overlaps()

    def advance(self, progress: Progress, now: float, stored: Stored | None = None) -> None:
        """The sync has made progress. `stored`: what the index has now; None if that is unchanged."""
        if progress.phase != "index":
            self.pace = None
        else:
            if self.pace is None:
                self.pace = Pace(now, progress.files_done, progress.chunks_done)
            self.can_sync_parts = True  # later changes can be indexed before the rest
        self.record(stored=stored)
        self.progress = progress
        if progress.trouble and not self.waiting_for:
            self.waiting_since = now
        self.waiting_for = progress.trouble

    def cover(self, coverage: Coverage, now: float, poll_s: float) -> None:
        """Sets how much of the tree is watched. A tree that is not watched completely is scanned every `poll_s`."""
        if coverage.mode == "poll" != self.coverage.mode:
            self.full_scan_due = min(self.full_scan_due, now + poll_s)
        self.coverage = coverage

    def synced(
        self,
        started: StartedSync,
        result: SyncResult | None,
        *,
        now: float,
        at: float,
        next_full_scan: float,
        retry_at_most_s: float,
    ) -> None:
        """The sync has succeeded. `result`: None if there was nothing to do; `at`: seconds since the epoch;
        `next_full_scan`: when it is due, if this sync was one; `retry_at_most_s`: the longest time until what could not
        be read is tried again."""
        scope = started.scope
        self.failure, self.is_missing, self.waiting_for = "", False, ""
        if scope:
            self.synced_at = at
        if scope.is_whole:
            self.last_full_sync, self.is_indexed = result, True
            self.full_scan_due, self.can_sync_parts, self.needs_full_scan = next_full_scan, True, False
        if result is not None:
            self.unreadable.note(scope, result.errors, now, retry_at_most_s)
            if started.is_change and not (scope.is_whole and result.is_empty):
                self.recheck.add_all(scope, now)

    def interrupted(self, scope: Scope, now: float) -> None:
        """The sync has made way for other work, or was stopped. What is left of it is due again."""
        if scope.is_whole:
            self.full_scan_due, self.needs_full_scan = now, True
        else:
            self.changes.add_all(scope, now)

    def missing(self, why: str, now: float) -> None:
        """The root does not exist."""
        if not self.is_missing:
            self.missing_counted = now
        self.is_missing, self.failure = True, why
        self.require_full_scan(now + MISSING_S)
        self._forget_dirty()
        self.coverage = Coverage()

    def failed(self, why: str, now: float) -> None:
        """The sync has failed for good."""
        self.failure = why
        self.require_full_scan(now + RETRY_S)

    def end(self, unanswered: StartedSync | None = None) -> None:
        """No sync is under way any more. `unanswered`: the callers that waited for this sync now wait for the next."""
        if unanswered is not None:
            self.flushes[:0], self.syncs[:0] = unanswered.flushes, unanswered.syncs
        self.running, self.progress, self.waiting_for = None, None, ""

    def _forget_dirty(self) -> None:
        """No single part has to be synced any more: either the whole tree has to be, or nothing."""
        for each in (self.changes, self.recheck, self.unreadable.retry):
            each.take_all()
