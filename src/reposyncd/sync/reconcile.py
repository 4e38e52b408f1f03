"""Makes the records of a generation exactly the chunks of the files on disk, from any state.

It compares the disk with the manifest, and assumes nothing about the history of either.
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
from reposyncd.model import DirectoryRow, FileCounts, FileError, FileRow, FileStat, Progress, Skip
from reposyncd.paths import is_within, parent
from reposyncd.store.manifest.manifest import Manifest
from reposyncd.sync.examine import Examiner, Read, Touched
from reposyncd.sync.listing import gone_directories
from reposyncd.sync.pipeline import Pipeline
from reposyncd.sync.plan import FilePlan, is_unchanged
from reposyncd.tree.scan import ScannedDirectory, Snapshot

_READS_OF_UNSTABLE = 3
"""How often a file that changes during the read is read before it is left for the next sync."""

READ_AHEAD_FILES = 32
"""How many files are read ahead: so many that the chunking process never waits for one."""

READ_AHEAD_BYTES = 4 << 20
"""Total size of the files that are read ahead. They are kept in memory."""

STALLED_BYTES = 16 << 20
"""Total size of the files that take long to be cut, and stay in memory while others are read."""

STOP_CHECK_S = 0.1
"""How often to check whether the sync has to stop while it waits for a file to be cut, in seconds."""

NOTHING_CUT_S = 0.3
"""If no file has been cut for this long, everything that can be committed is committed."""

COMMIT_S = 0.1
"""A plan waits for its commit at most this long while other files are being cut. The time doubles with each commit:
somebody may be waiting for the first file, but nobody for small batches after it. Not used in a full scan."""


@dataclass(frozen=True, slots=True)
class Dirty:
    """A file that has to be read: its stat does not prove that it is unchanged, or it was judged by older rules."""

    path: str
    stat: FileStat
    known: FileRow | None


class _Cutting(NamedTuple):
    """A file that is being cut."""

    file: Dirty
    read: Read
    size: int
    """bytes"""


def _has_room(cutting: Sequence[_Cutting], stalled: Sequence[_Cutting]) -> bool:
    if sum(each.size for each in stalled) > STALLED_BYTES:
        return False
    return len(cutting) < READ_AHEAD_FILES and sum(each.size for each in cutting) < READ_AHEAD_BYTES


@dataclass(slots=True)
class _Directory:
    """A changed directory whose files are being brought up to date."""

    scanned: ScannedDirectory
    complete: bool
    """whether every file so far was recorded with the stat that the listing had"""
    skips: dict[str, Skip | None] = field(default_factory=dict)
    """path to the reason why the file has no chunks; None if it has some"""

    def row(self) -> DirectoryRow:
        """The row to record, with the skips that were found by reading files."""
        return self.scanned.row._replace(skipped=add_counts(self.scanned.row.skipped, _count(self.skips.values())))


@dataclass(slots=True)
class ReconcileResult:
    """What a reconcile has found and done, in files. The pipeline counts the chunks."""

    new: int = 0
    modified: int = 0
    deleted: int = 0
    bytes_read: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    errors: list[FileError] = field(default_factory=list)

    def counts(self, total: int) -> FileCounts:
        """The counts to report, for an index of `total` files."""
        return FileCounts(
            total=total,
            new=self.new,
            modified=self.modified,
            deleted=self.deleted,
            unchanged=total - self.new - self.modified,
            skipped=dict(sorted(self.skipped.items())),
        )


class Reconciler:
    """One reconcile of one tree with one generation. Cannot be used twice.

    Raises InterruptedSyncError if `should_stop` returns True, and StoreError if a store fails. In both cases, what was
    committed stays, and the next reconcile continues from there. A file that cannot be read is an error in the result,
    and keeps its chunks.
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
        self.result = ReconcileResult()
        """what was found and done so far"""
        self._directories: dict[str, _Directory] = {}
        self._gone: list[FileRow] = []
        self.done = 0
        self.total = 0

    def find_dirty(self, snapshot: Snapshot, known: Mapping[str, DirectoryRow | None]) -> list[Dirty]:
        """Step one: compares the snapshot with the manifest, and returns the files to read. `run` is step two."""
        dirty: list[Dirty] = []
        unknown = {error.path for error in snapshot.unreadable}
        self.result.errors += snapshot.unreadable
        for path in snapshot.unchanged:
            row = known[path]
            assert row is not None  # noqa: S101 - a directory is only unchanged if it has a row
            self.result.skipped = add_counts(self.result.skipped, row.skipped)
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
                if is_within(path, unknown):
                    directory.complete = False
                else:
                    self._gone.append(file)
        for path in gone_directories(snapshot, known):
            self._gone += self._manifest.files(path).values()
        self.total = len(dirty) + len(self._gone)
        return dirty

    def run(self, dirty: Iterable[Dirty], gone: Iterable[str]) -> ReconcileResult:
        """Brings the dirty files up to date, then deletes the chunks of files that are gone.

        Because of this order, the vectors of a renamed file can be copied, and a reader finds its new chunks before the
        old ones disappear. `gone` are the directories on record that no longer exist.
        """
        self.report()  # the amount of work is known now
        self._bring_up_to_date(dirty)
        for row in self._gone:
            self._stop_if_asked()
            self._remove(row)
            self._advance()
        self._pipeline.drain()
        complete = {path: directory.row() for path, directory in self._directories.items() if directory.complete}
        self._manifest.put_directories(complete, gone)
        for directory in self._directories.values():
            self.result.skipped = add_counts(self.result.skipped, directory.row().skipped)
        return self.result

    def _bring_up_to_date(self, dirty: Iterable[Dirty]) -> None:
        """Reads some files ahead of those that are being cut. Plans files in the order in which they are cut, so that
        no file waits for one that takes long."""
        waiting = deque((file, 1) for file in dirty)
        cutting: list[_Cutting] = []
        stalled: list[_Cutting] = []
        waited_s = 0.0
        while waiting or cutting or stalled:
            self._stop_if_asked()
            if time.monotonic() >= self._commit_due:
                self._pipeline.drain()
                self._commit_s, self._commit_due = 2 * self._commit_s, math.inf
            if waiting and _has_room(cutting, stalled):
                file, reads = waiting.popleft()
                try:
                    read = self._read(file, is_last=reads == _READS_OF_UNSTABLE)
                except UnstableError:
                    waiting.append((file, reads + 1))
                else:
                    cutting += [read] if read else []
            elif not any(each.read.cut.done() for each in [*cutting, *stalled]):
                waited_s = self._wait([*stalled, *cutting], waited_s)
                if waited_s > NOTHING_CUT_S:
                    stalled += cutting
                    cutting = []
            for each in [each for each in [*cutting, *stalled] if each.read.cut.done()]:
                (cutting if each in cutting else stalled).remove(each)
                self._plan(each)
                waited_s = 0.0

    def _wait(self, cutting: Sequence[_Cutting], waited_s: float) -> float:
        """Waits for a moment, or until a file is cut. If no file was cut for too long, commits what it can.

        `waited_s` is for how long no file was cut before the call. Returns for how long none was cut after it.
        """
        began = time.monotonic()
        wait([each.read.cut for each in cutting], STOP_CHECK_S, FIRST_COMPLETED)
        waited_s += time.monotonic() - began
        if waited_s > NOTHING_CUT_S:
            self._commit_due = math.inf
            self._pipeline.drain()
            self._on_progress(replace(self.progress(), cutting=cutting[0].file.path))
        return waited_s

    def _read(self, file: Dirty, is_last: bool) -> _Cutting | None:
        """Reads a file and has it cut. Returns None if nothing is left to do for it.

        Raises UnstableError if the file changed during the read, unless this is the last attempt (`is_last`).
        """
        directory = self._directories[parent(file.path)]
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
            self.result.bytes_read += size
            if isinstance(found, Read):
                return _Cutting(file, found, size)
            self._accept(directory, file, found)
        self._advance()
        return None

    def _plan(self, each: _Cutting) -> None:
        """Plans the records of a file that was cut."""
        directory = self._directories[parent(each.file.path)]
        try:
            plan = self._examiner.plan(each.read)
        except UncutError as problem:
            self._fail(directory, each.file, problem)
        else:
            self._accept(directory, each.file, plan)
            if plan.row.skip is Skip.QUARANTINED:
                self.result.errors.append(FileError(plan.row.path, f"quarantined until it changes: {plan.row.verdict}"))
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
        self.result.new += is_indexed and not was_indexed
        self.result.modified += is_indexed and was_indexed
        self.result.deleted += was_indexed and not is_indexed
        self._pipeline.put(found)

    def _fail(self, directory: _Directory, file: Dirty, problem: FileProblem) -> None:
        directory.complete = False
        self.result.errors.append(FileError(file.path, str(problem)))

    def quarantined(self, path: str, reason: str) -> None:
        """Called by the pipeline if it had to give up a file."""
        self._directories[parent(path)].skips[path] = Skip.QUARANTINED
        self.result.errors.append(FileError(path, reason))

    def _remove(self, row: FileRow) -> None:
        self.result.deleted += row.skip is None
        self._pipeline.remove(row.path, [chunk.id for chunk in self._manifest.chunks(row.path)])

    def _advance(self) -> None:
        self.done += 1
        self.report()

    def progress(self) -> Progress:
        """How much was done so far."""
        return Progress("index", self.done, self.total, self._pipeline.totals.added)

    def report(self) -> None:
        """Reports the progress."""
        self._on_progress(self.progress())

    def _stop_if_asked(self) -> None:
        if self._should_stop():
            self._pipeline.finish_begun()
            raise InterruptedSyncError(
                f"stopped after {self.done} of {self.total} changed files; what is stored stays, and the next "
                "sync continues from there"
            )


def add_counts(a: Mapping[str, int], b: Mapping[str, int]) -> dict[str, int]:
    """The sums of both, by key."""
    return {key: a.get(key, 0) + b.get(key, 0) for key in a.keys() | b.keys()}


def _count(skips: Iterable[Skip | None]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for skip in skips:
        if skip is not None:
            counts[str(skip)] = counts.get(str(skip), 0) + 1
    return counts
