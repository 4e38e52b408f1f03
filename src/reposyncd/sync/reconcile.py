"""The engine: makes a generation's records exactly the chunks of the files on disk, from any state.

What to do is decided from the disk and the manifest alone; nothing is assumed of how either came to be.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from reposyncd.errors import FileProblem, InterruptedSyncError, UncutError, UnstableError, VanishedError
from reposyncd.model import DirectoryRow, FileCounts, FileError, FileRow, FileStat, Progress, Skip, is_below
from reposyncd.store.manifest.manifest import Manifest
from reposyncd.sync.examine import Examiner, Read, Touched
from reposyncd.sync.listing import gone_directories
from reposyncd.sync.pipeline import Pipeline
from reposyncd.sync.plan import FilePlan, is_unchanged
from reposyncd.tree.scan import ScannedDirectory, Snapshot

_READS_OF_UNSTABLE = 3
"""How often a file that changes under the read is read again before it is left to the next sync."""


READ_AHEAD_FILES = 32
"""Files that are read and not planned: enough for whoever cuts them never to wait."""

READ_AHEAD_BYTES = 4 << 20
"""Their size, past which no more is read: they are in memory."""

STALLED_BYTES = 16 << 20
"""Of files that take long to be cut, and are waited for while others are read."""

LOOK_S = 0.1
"""Between two looks at whether to stop."""

STALL_S = 0.3
"""After so long without a file that was cut, what can be committed is."""

COMMIT_S = 0.1
"""What is planned is committed after so long, though more is being cut, and after twice that the next time: somebody
may wait for the first file, and nobody for a small batch of the others. Not in a look at the whole tree."""


@dataclass(frozen=True, slots=True)
class Dirty:
    """A file whose content is not proven by its stat, or was judged by other rules."""

    path: str
    stat: FileStat
    known: FileRow | None


class _UnderWay(NamedTuple):
    """A file that is being cut."""

    file: Dirty
    read: Read
    size: int
    """bytes"""


def _has_room(under_way: Sequence[_UnderWay], stalled: Sequence[_UnderWay]) -> bool:
    if sum(each.size for each in stalled) > STALLED_BYTES:
        return False
    return len(under_way) < READ_AHEAD_FILES and sum(each.size for each in under_way) < READ_AHEAD_BYTES


@dataclass(slots=True)
class _Directory:
    """A changed directory, as its files are brought up to date."""

    scanned: ScannedDirectory
    complete: bool
    """every file so far is recorded as the listing had it"""
    skips: dict[str, Skip | None] = field(default_factory=dict)
    """by path: why the file has no chunks"""

    def row(self) -> DirectoryRow:
        """What may be remembered of it, with the skips found by reading."""
        return self.scanned.row._replace(skipped=add_counts(self.scanned.row.skipped, _count(self.skips.values())))


@dataclass(slots=True)
class Outcome:
    """What a reconcile found and did to files; its chunks are counted by the pipeline."""

    new: int = 0
    modified: int = 0
    deleted: int = 0
    bytes_read: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    errors: list[FileError] = field(default_factory=list)

    def counts(self, total: int) -> FileCounts:
        """As it is reported, for an index of `total` files."""
        return FileCounts(
            total=total,
            new=self.new,
            modified=self.modified,
            deleted=self.deleted,
            unchanged=total - self.new - self.modified,
            skipped=dict(sorted(self.skipped.items())),
        )


class Reconciler:
    """One reconcile of one tree with one generation. Not reusable.

    Raises InterruptedSyncError when `should_stop` says so, and a StoreError when a store fails; in both cases
    what was committed stays, and another reconcile goes on from there. A file that cannot be read is an error
    in the outcome and keeps its chunks.
    """

    def __init__(
        self,
        manifest: Manifest,
        pipeline: Pipeline,
        examiner: Examiner,
        *,
        on_progress: Callable[[Progress], None],
        should_stop: Callable[[], bool],
        commit_s: float = COMMIT_S,
    ) -> None:
        self._commit_s = commit_s
        self._commit_due = math.inf
        self._manifest = manifest
        self._pipeline = pipeline
        self._examiner = examiner
        self._on_progress = on_progress
        self._should_stop = should_stop
        self.outcome = Outcome()
        """what was done so far"""
        self._directories: dict[str, _Directory] = {}
        self._gone: list[FileRow] = []
        self.done = 0
        self.total = 0

    def find_dirty(self, snapshot: Snapshot, known: Mapping[str, DirectoryRow | None]) -> list[Dirty]:
        """Compares the snapshot with the manifest. First step; `run` is the second."""
        dirty: list[Dirty] = []
        unknown = {error.path for error in snapshot.unreadable}
        self.outcome.errors += snapshot.unreadable
        for path in snapshot.unchanged:
            row = known[path]
            assert row is not None  # noqa: S101 - a directory is unchanged against a row only
            self.outcome.skipped = add_counts(self.outcome.skipped, row.skipped)
        for scanned in snapshot.changed:
            files = self._manifest.files(scanned.path) if scanned.path in known else {}
            directory = _Directory(scanned, scanned.trusted)
            self._directories[scanned.path] = directory
            for path, stat in scanned.files:
                file = files.pop(path, None)
                if file is not None and is_unchanged(file, stat) and self._examiner.is_judged(file):
                    directory.skips[path] = file.skip
                else:
                    dirty.append(Dirty(path, stat, file))
            for path, file in files.items():
                if is_below(path, unknown):
                    directory.complete = False
                else:
                    self._gone.append(file)
        for path in gone_directories(snapshot, known):
            self._gone += self._manifest.files(path).values()
        self.total = len(dirty) + len(self._gone)
        return dirty

    def run(self, dirty: Iterable[Dirty], gone: Iterable[str]) -> Outcome:
        """Brings the dirty files up to date, then deletes what is gone: a renamed file's chunks are copied
        before they are deleted, and a reader finds the new ones before it misses the old."""
        self.report()  # what there is to do is known, though nothing is done yet
        self._bring_up_to_date(dirty)
        for row in self._gone:
            self._stop_if_asked()
            self._remove(row)
            self._advance()
        self._pipeline.drain()
        complete = {path: directory.row() for path, directory in self._directories.items() if directory.complete}
        self._manifest.put_directories(complete, gone)
        for directory in self._directories.values():
            self.outcome.skipped = add_counts(self.outcome.skipped, directory.row().skipped)
        return self.outcome

    def _bring_up_to_date(self, dirty: Iterable[Dirty]) -> None:
        """Reads some files ahead of those that are being cut, and takes what is cut as it comes: one file that takes
        long keeps no other waiting."""
        waiting = deque((file, 1) for file in dirty)
        under_way: list[_UnderWay] = []
        stalled: list[_UnderWay] = []
        waited_s = 0.0
        while waiting or under_way or stalled:
            self._stop_if_asked()
            if time.monotonic() >= self._commit_due:
                self._pipeline.drain()
                self._commit_s, self._commit_due = 2 * self._commit_s, math.inf
            if waiting and _has_room(under_way, stalled):
                file, reads = waiting.popleft()
                try:
                    read = self._read(file, is_last=reads == _READS_OF_UNSTABLE)
                except UnstableError:
                    waiting.append((file, reads + 1))
                else:
                    under_way += [read] if read else []
            elif not any(each.read.cut.done() for each in [*under_way, *stalled]):
                waited_s = self._wait([*stalled, *under_way], waited_s)
                if waited_s > STALL_S:
                    stalled += under_way
                    under_way = []
            for each in [each for each in [*under_way, *stalled] if each.read.cut.done()]:
                (under_way if each in under_way else stalled).remove(each)
                self._plan(each)
                waited_s = 0.0

    def _wait(self, under_way: Sequence[_UnderWay], waited_s: float) -> float:
        """A moment, or until something is cut. What can be committed is, if that takes long: the rest may take as long
        as it likes. Returns for how long there was nothing."""
        began = time.monotonic()
        wait([each.read.cut for each in under_way], LOOK_S, FIRST_COMPLETED)
        waited_s += time.monotonic() - began
        if waited_s > STALL_S:
            self._commit_due = math.inf
            self._pipeline.drain()
            self._on_progress(replace(self.progress(), cutting=under_way[0].file.path))
        return waited_s

    def _read(self, file: Dirty, is_last: bool) -> _UnderWay | None:
        """The file, on its way to be cut; None: it is dealt with. Raises UnstableError if it moved under the read, and
        this was not the last time that it is read."""
        directory = self._directories[file.path.rpartition("/")[0]]
        try:
            found, size = self._examiner.read(file.path, file.known)
        except VanishedError:
            directory.complete = False
            if file.known is not None:
                self._remove(file.known)
        except UnstableError as problem:
            if not is_last:
                raise
            self._fail(directory, file, problem)
        except FileProblem as problem:
            self._fail(directory, file, problem)
        else:
            self.outcome.bytes_read += size
            if isinstance(found, Read):
                return _UnderWay(file, found, size)
            self._accept(directory, file, found)
        self._advance()
        return None

    def _plan(self, each: _UnderWay) -> None:
        """Of a file that was cut."""
        directory = self._directories[each.file.path.rpartition("/")[0]]
        try:
            plan = self._examiner.plan(each.read)
        except UncutError as problem:
            self._fail(directory, each.file, problem)
        else:
            self._accept(directory, each.file, plan)
            if plan.row.skip is Skip.QUARANTINED:
                self.outcome.errors.append(
                    FileError(plan.row.path, f"quarantined until it changes: {plan.row.verdict}")
                )
        self._advance()

    def _accept(self, directory: _Directory, file: Dirty, found: FilePlan | Touched) -> None:
        self._commit_due = min(self._commit_due, time.monotonic() + self._commit_s)
        directory.skips[file.path] = found.row.skip
        if found.row.stat != file.stat:
            directory.complete = False
        if isinstance(found, Touched):
            self._pipeline.touch(found.row)
            return
        was_indexed = file.known is not None and file.known.skip is None
        is_indexed = found.row.skip is None
        self.outcome.new += is_indexed and not was_indexed
        self.outcome.modified += is_indexed and was_indexed
        self.outcome.deleted += was_indexed and not is_indexed
        self._pipeline.put(found)

    def _fail(self, directory: _Directory, file: Dirty, problem: FileProblem) -> None:
        directory.complete = False
        self.outcome.errors.append(FileError(file.path, str(problem)))

    def quarantined(self, path: str, reason: str) -> None:
        """The pipeline has given the file up, after it was accepted."""
        self._directories[path.rpartition("/")[0]].skips[path] = Skip.QUARANTINED
        self.outcome.errors.append(FileError(path, reason))

    def _remove(self, row: FileRow) -> None:
        self.outcome.deleted += row.skip is None
        self._pipeline.remove(row.path, [chunk.id for chunk in self._manifest.chunks(row.path)])

    def _advance(self) -> None:
        self.done += 1
        self.report()

    def progress(self) -> Progress:
        """How far it is."""
        return Progress("index", self.done, self.total, self._pipeline.totals.added)

    def report(self) -> None:
        """Tells how far it is."""
        self._on_progress(self.progress())

    def _stop_if_asked(self) -> None:
        if self._should_stop():
            self._pipeline.finish_begun()
            raise InterruptedSyncError(
                f"stopped after {self.done} of {self.total} changed files; what is stored stays, and the next "
                "sync goes on from there"
            )


def add_counts(a: Mapping[str, int], b: Mapping[str, int]) -> dict[str, int]:
    """The counts of both, by key."""
    return {key: a.get(key, 0) + b.get(key, 0) for key in a.keys() | b.keys()}


def _count(skips: Iterable[Skip | None]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for skip in skips:
        if skip is not None:
            counts[str(skip)] = counts.get(str(skip), 0) + 1
    return counts
