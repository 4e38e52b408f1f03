"""One file: read it, and say what it means for the index."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from reposyncd import tree
from reposyncd.model import ChunkRow, FileRow, FileStat, Skip
from reposyncd.ports import Chunker
from reposyncd.sync.plan import FilePlan, plan_file
from reposyncd.tree.read import Tree, classify


@dataclass(frozen=True, slots=True)
class Touched:
    """The records are those of the content; the stat is new, or the rules that it was judged by."""

    row: FileRow


@dataclass(frozen=True, slots=True)
class Examiner:
    """Reads files of one tree and plans their records."""

    repo: str
    tree: Tree
    max_file_size: int
    """bytes"""
    allows_secrets: Callable[[str], bool]
    """whether the file at a path may hold secrets"""
    chunker: Chunker
    stored_chunks: Callable[[str], list[ChunkRow]]
    """the live chunks of a path"""
    now_ns: Callable[[], int]

    def examine(self, path: str, known: FileRow | None) -> tuple[FilePlan | Touched, int]:
        """What the file is now, and how many bytes were read. Raises a FileProblem."""
        # Before the read: a change after it must make the times too young to be trusted.
        recorded_ns = self.now_ns()
        raw = self.tree.read(path, self.max_file_size)
        is_same = known is not None and known.digest == raw.digest
        if known is not None and is_same and self.is_judged(known):
            return Touched(known._replace(stat=raw.stat, recorded_ns=recorded_ns)), len(raw.data)
        plan = self._plan(path, raw.stat, recorded_ns, raw.digest, raw.data, known)
        if known is not None and is_same and known.skip == plan.row.skip and plan.changes_nothing:
            return Touched(plan.row), len(raw.data)
        return plan, len(raw.data)

    def is_judged(self, known: FileRow) -> bool:
        """Whether the rules that are in force have said what the recorded content is. They need not where it cannot
        be stored."""
        return known.skip is Skip.QUARANTINED or known.judged == self._judgement(known.path)

    def _judgement(self, path: str) -> int:
        return -tree.VERSION if self.allows_secrets(path) else tree.VERSION

    def _plan(
        self, path: str, stat: FileStat, recorded_ns: int, digest: str, data: bytes, known: FileRow | None
    ) -> FilePlan:
        judged = self._judgement(path)
        text = classify(data, allow_secrets=judged < 0)
        skip = text if isinstance(text, Skip) else None
        row = FileRow(path, stat, recorded_ns, digest, skip, judged)
        chunks = () if isinstance(text, Skip) else self.chunker(path, text)
        stored = self.stored_chunks(path) if known is not None and known.skip is None else []
        return plan_file(self.repo, row, chunks, stored)
