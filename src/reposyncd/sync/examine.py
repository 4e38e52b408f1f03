"""Reads one file, has it cut into chunks, and plans what changes in the index."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from reposyncd import tree
from reposyncd.model import ChunkRow, Cut, FileRow, Skip
from reposyncd.ports import Chunker, Stage
from reposyncd.sync.plan import FilePlan, plan_file
from reposyncd.sync.stages import StageReport
from reposyncd.tree.read import Tree


@dataclass(frozen=True, slots=True)
class Touched:
    """A file whose records are up to date. Only its row changes: it has another stat, or was judged by newer rules."""

    row: FileRow


@dataclass(frozen=True, slots=True)
class Read:
    """A file that was read and is being cut."""

    row: FileRow
    """its new row, without `skip` and `verdict`, which are the result of cutting"""
    known: FileRow | None
    """its row on record"""
    cut: Future[Cut]


@dataclass(frozen=True, slots=True)
class Examiner:
    """Examines the files of one tree."""

    repo: str
    tree: Tree
    max_file_size: int
    """bytes"""
    allows_secrets: Callable[[str], bool]
    """whether the file at a path is indexed even if it contains secrets"""
    chunker: Chunker
    stored_chunks: Callable[[str], list[ChunkRow]]
    """the live chunks of a path"""
    now_ns: Callable[[], int]
    stages: StageReport
    """receives the durations of reading and cutting"""

    def read(self, path: str, known: FileRow | None) -> tuple[Read | Touched, int]:
        """Reads a file and has it cut, unless its records are up to date. Also returns the number of bytes read.

        Raises FileProblem.
        """
        # Taken before the read, so that the times of a later change are too recent to be trusted.
        recorded_ns = self.now_ns()
        began = time.perf_counter()
        raw = self.tree.read(path, self.max_file_size)
        self.stages.add(Stage.READ, time.perf_counter() - began, 1)
        is_same = known is not None and known.digest == raw.digest
        if known is not None and is_same and self.is_judged(known):
            return Touched(known._replace(stat=raw.stat, recorded_ns=recorded_ns)), len(raw.data)
        row = FileRow(path, raw.stat, recorded_ns, raw.digest, None, judged=self._judgement(path))
        cut = self.chunker.begin(path, raw.data, raw.digest, allow_secrets=row.judged < 0)
        return Read(row, known, cut), len(raw.data)

    def plan(self, read: Read) -> FilePlan | Touched:
        """Waits until the file is cut, and plans what changes. Raises UncutError and TransientStoreError."""
        cut, known = read.cut.result(), read.known
        self.stages.add(Stage.CHUNK, cut.duration_s, len(cut.chunks))
        row = read.row._replace(skip=cut.skip, verdict=cut.verdict)
        stored = self.stored_chunks(row.path) if known is not None and known.skip is None else []
        plan = plan_file(self.repo, row, cut.chunks, stored)
        is_same = known is not None and known._replace(stat=row.stat, recorded_ns=0, judged=row.judged) == (
            row._replace(recorded_ns=0)
        )
        return Touched(row) if is_same and plan.changes_nothing else plan

    def is_judged(self, known: FileRow) -> bool:
        """Whether the present rules have judged the row. For a file that cannot be stored, the rules make no
        difference."""
        return known.skip is Skip.QUARANTINED or known.judged == self._judgement(known.path)

    def _judgement(self, path: str) -> int:
        return -tree.VERSION if self.allows_secrets(path) else tree.VERSION
