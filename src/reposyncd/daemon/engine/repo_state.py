"""A repository while the service runs: what is known of it, what is asked of it, and what is to be done next."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from reposyncd.daemon.engine.work import Flush, Work
from reposyncd.model import WHOLE, FileError, Progress, Scope, SyncResult, Verdict
from reposyncd.store.manifest.catalog import Repo
from reposyncd.sync.debounce import Debounce
from reposyncd.sync.runner import Sync

PACED_S = 1.0
"""Before that nothing is said of how long it will take."""


RETRY_FIRST_S = 30.0
"""What could not be read is tried again after so long, and after twice that the next time: no event tells that a disk
is well again."""


class Coverage(NamedTuple):
    """How much of a tree is watched."""

    mode: str = "none"
    """"inotify"; "poll": it is looked at on a timer too, since not every change gives an event; "none": paused, missing
    or not looked at yet"""
    directories: int = 0
    unwatched: int = 0
    reason: str = ""
    """why not everything is watched, and what to do about it"""


class Pace(NamedTuple):
    """Where a job stood when it began to index; what came before tells nothing of how long the rest takes."""

    since: float
    """monotonic seconds"""
    files: int
    chunks: int


def estimate(pace: Pace, progress: Progress, now: float) -> tuple[float | None, float | None]:
    """(chunks per second, seconds left) as far as it can be said. Pure."""
    elapsed, files = now - pace.since, progress.files_done - pace.files
    if elapsed < PACED_S or files <= 0:
        return None, None
    left = max(0, progress.files_total - progress.files_done)
    return max(0, progress.chunks_done - pace.chunks) / elapsed, left * elapsed / files


class Stored(NamedTuple):
    """What the index has of a repo."""

    collection: str | None = None
    files: int = 0
    chunks: int = 0
    verdicts: tuple[Verdict, ...] = ()
    embedder: str = ""
    """that made the collection's vectors"""
    is_outdated: bool = False
    """whether another index is to take its place, since it is of another version or model"""


@dataclass(eq=False)
class RepoState:
    """Guarded by the engine's lock, but for `sync`, which is the engine thread's own."""

    repo: Repo
    debounce: Debounce
    later: Debounce
    """what is looked at once more some seconds after a change, when its times are old enough to be proof"""
    whole_due: float
    """when the whole tree is to be looked at, on the monotonic clock"""
    ready: bool = False
    """whether a part of the tree can be brought up to date alone"""
    behind: bool = True
    """whether the whole tree has to be looked at before it can be said to be current"""
    indexed: bool = False
    """whether a first index was ever completed"""
    running: Scope | None = None
    """what is being brought up to date"""
    progress: Progress | None = None
    pace: Pace | None = None
    """of the job under way"""
    trouble: str = ""
    """what the store waits for"""
    trouble_since: float = 0.0
    failure: str = ""
    """why the last try failed for good, or the root is missing"""
    missing: bool = False
    missing_since: float = 0.0
    """until when `repo.missing_s` has been counted"""
    coverage: Coverage = field(default_factory=Coverage)
    stored: Stored = field(default_factory=Stored)
    unindexed: dict[str, FileError] = field(default_factory=dict)
    """by path: files and directories that could not be read when they were last looked at"""
    retry: Debounce = field(default_factory=lambda: Debounce(RETRY_FIRST_S, RETRY_FIRST_S))
    """where those are: looked at again by itself, ever later"""
    retry_s: float = 0.0
    """how much later the last time"""
    last: SyncResult | None = None
    """of the last look at the whole tree"""
    synced_at: float | None = None
    """when it was last brought up to date, seconds since the epoch"""
    sync: Sync | None = None
    """a look at the whole tree that other work was put before; it goes on as the same one"""
    read_all: bool = False
    """whether the next look at the whole tree is to trust nothing"""
    flushes: list[Flush] = field(default_factory=list)
    syncs: list[Work] = field(default_factory=list)

    @property
    def is_small(self) -> bool:
        """Whether what is due is a part of the tree only."""
        return self.ready and not self.debounce.is_whole

    @property
    def wants_whole(self) -> bool:
        """Whether what was asked for needs a look at the whole tree."""
        return bool(self.syncs) or (bool(self.flushes) and not (self.ready and self.coverage.mode == "inotify"))

    def next(self, now: float, stretch: float) -> tuple[float, Scope]:
        """(when, what): the next thing to do. At or before `now` it is due. An empty scope: nobody changed anything,
        and only those who asked are to be told. `stretch` multiplies the settle time."""
        if self.wants_whole:
            return -math.inf, WHOLE
        if self.flushes:
            return -math.inf, WHOLE if self.whole_due <= now or self.debounce.is_whole else Scope()
        if self.repo.paused:
            return math.inf, Scope()
        moments = [(self.whole_due, WHOLE)]
        if self.ready:
            for dirty, factor in ((self.debounce, stretch), (self.later, 1.0), (self.retry, 1.0)):
                if (due := dirty.due(factor)) is not None:
                    moments.append((due, WHOLE if dirty.is_whole else Scope()))
        # What is due and small goes first.
        return min(moments, key=lambda each: (max(each[0], now), each[1].is_whole))

    def take(self, scope: Scope, now: float, stretch: float) -> Scope:
        """What is now to be done, taken from what is dirty; `scope` is what `next` said."""
        if scope.is_whole:
            self.forget_dirty()
            return WHOLE
        changed = self.debounce.take_all() if self.flushes else self.debounce.take(now, stretch)
        return (changed | self.later.take(now) | self.retry.take(now)).without_overlaps()

    def forget_dirty(self) -> None:
        """Nothing is to be looked at for itself any more: all of the tree will be, or none."""
        for each in (self.debounce, self.later, self.retry):
            each.take_all()

    def note_unindexed(self, scope: Scope, errors: Iterable[FileError], now: float, at_most_s: float) -> None:
        """What could not be read of the scope that was looked at. It is tried again after `at_most_s` at the latest."""
        elsewhere = {path: each for path, each in self.unindexed.items() if not scope.covers(each)}
        found = {each.path: each for each in errors}
        was_tried, is_news = len(elsewhere) < len(self.unindexed), bool(found.keys() - self.unindexed.keys())
        self.unindexed = {**elsewhere, **found}
        if not self.unindexed:
            self.retry.take_all()
            self.retry_s = 0.0
        elif is_news or len(self.retry) == 0:
            if is_news:
                self.retry_s = RETRY_FIRST_S
            elif was_tried:
                self.retry_s = min(2 * self.retry_s, at_most_s)
            self.retry.take_all()
            self.retry.reconfigure(self.retry_s, self.retry_s)
            # With all that is in it, since a directory may be what could not be read; of a file that is nothing.
            directories = frozenset(path.rpartition("/")[0] for path in self.unindexed)
            self.retry.add_all(Scope(directories, frozenset(self.unindexed)), now)

    @property
    def is_pending(self) -> bool:
        """Whether there are changes that are not in the index yet."""
        return self.behind or len(self.debounce) > 0

    @property
    def state(self) -> tuple[str, str]:
        """(state, reason): of what is true, the most urgent."""
        if self.repo.paused and self.running is None:
            return "paused", "it is kept as it was; go on with: reposyncd resume " + self.repo.name
        if self.missing:
            return "missing", self.failure
        if self.trouble:
            return "degraded", self.trouble
        if self.failure:
            return "failed", self.failure
        if self.running is not None:
            return "syncing", ""
        if self.coverage.reason:
            return "degraded", self.coverage.reason
        if self.is_pending:
            return "pending", ""
        return "current", ""
