"""What is known of the repositories and the engine, as frozen values: they cross threads. Pure.

Times are seconds on the monotonic clock unless stated otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from reposyncd.daemon.engine.work import Flush, Work
from reposyncd.model import FileError, Progress, Scope, SyncResult, Verdict
from reposyncd.store.manifest.catalog import Incident, Repo

PACED_S = 1.0
"""A job has to index for this long before its rate says anything."""


class Coverage(NamedTuple):
    """How much of a tree is watched."""

    mode: str = "none"
    """"inotify"; "poll": it is also scanned on a timer, since some changes give no event; "none": paused, missing or
    not scanned yet"""
    unwatched: int = 0
    """directories that are not watched"""
    reason: str = ""
    """why not everything is watched, and what to do about it"""


class Stored(NamedTuple):
    """What the index has of a repository."""

    collection: str | None = None
    """the collection that can be searched"""
    files: int = 0
    chunks: int = 0
    verdicts: tuple[Verdict, ...] = ()
    embedder: str = ""
    """that made the collection's vectors"""
    is_outdated: bool = False
    """whether it will be replaced, because it is of another version or another embedding model"""


class Pace(NamedTuple):
    """Where a job stood when it began to index. What came before says nothing about how long the rest takes."""

    since: float
    files: int
    chunks: int


def estimate(pace: Pace, progress: Progress, now: float) -> tuple[float | None, float | None]:
    """(chunks per second, seconds left); None where it is too early to say."""
    elapsed, files = now - pace.since, progress.files_done - pace.files
    if elapsed < PACED_S or files <= 0:
        return None, None
    left = max(0, progress.files_total - progress.files_done)
    return max(0, progress.chunks_done - pace.chunks) / elapsed, left * elapsed / files


class RepoCondition(NamedTuple):
    """What `status` says of a repository, in short."""

    state: str
    """one of `messages.RepoStateName`"""
    reason: str = ""
    is_waiting: bool = False
    """whether it is degraded because a sync waits for something, such as a lock or room on the disk"""


class NextSync(NamedTuple):
    """The next sync of a repository. It is due when `when` is not in the future."""

    repo: str
    root: str
    when: float
    scope: Scope
    """the whole tree; or empty, for the parts that are dirty when the sync begins, if there are any"""
    stretch: float = 1.0
    """factor by which the settle time was multiplied"""
    is_first_index: bool = False
    """whether it makes the first index, and nobody waits for it"""


class StartedSync(NamedTuple):
    """A sync that has begun, with those who wait for it."""

    scope: Scope
    is_change: bool
    """whether it was caused by changes, or is a full scan"""
    flushes: Sequence[Flush] = ()
    syncs: Sequence[Work] = ()


@dataclass(frozen=True, slots=True)
class RepoSnapshot:
    """What was true of a repository at one moment."""

    repo: Repo
    number: int
    """another one if the repository was removed and added again"""
    condition: RepoCondition
    stored: Stored
    coverage: Coverage
    running: Scope | None
    """what is being synced"""
    progress: Progress | None
    pace: Pace | None
    waiting_for: str
    """what the sync waits for, or "" """
    waiting_since: float
    failure: str
    is_missing: bool
    is_indexed: bool
    unindexed: Mapping[str, FileError]
    last_full_sync: SyncResult | None
    synced_at: float | None
    """seconds since the epoch"""
    pending: int
    """parts of the tree with changes that are not indexed yet"""
    pending_since: float | None
    full_scan_due: float

    @property
    def name(self) -> str:
        """The repository's name."""
        return self.repo.name


class EngineSnapshot(NamedTuple):
    """What was true of the engine at one moment."""

    state_dir: str
    repos: Sequence[RepoSnapshot]
    """by name"""
    watched: Mapping[str, int]
    """by root: directories that are watched"""
    watches: int
    """directories that are watched, in all"""
    activity: str
    """what is under way, unless that is the sync of a repository; or "" """
    gate_reason: str | None
    """why first indexes wait for resources, if they do"""
    events_lost: int
    """how often"""
    incidents: Sequence[Incident]
    """what was found damaged, oldest first"""
