"""One file: read it, and say what it means for the index."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from reposyncd.model import ChunkRow, FileRow, FileStat, Skip
from reposyncd.ports import Chunker
from reposyncd.sync.plan import FilePlan, plan_file
from reposyncd.tree.read import Tree, classify


@dataclass(frozen=True, slots=True)
class Touched:
    """The content is what is on record; the stat is new."""

    row: FileRow


@dataclass(frozen=True, slots=True)
class Examiner:
    """Reads files of one tree and plans their records."""

    repo: str
    tree: Tree
    max_file_size: int
    """bytes"""
    chunker: Chunker
    stored_chunks: Callable[[str], list[ChunkRow]]
    """the live chunks of a path"""
    now_ns: Callable[[], int]

    def examine(self, path: str, known: FileRow | None) -> tuple[FilePlan | Touched, int]:
        """What the file is now, and how many bytes were read. Raises a FileProblem."""
        # Before the read: a change after it must make the times too young to be trusted.
        recorded_ns = self.now_ns()
        raw = self.tree.read(path, self.max_file_size)
        if known is not None and known.digest == raw.digest:
            return Touched(known._replace(stat=raw.stat, recorded_ns=recorded_ns)), len(raw.data)
        return self._plan(path, raw.stat, recorded_ns, raw.digest, raw.data, known), len(raw.data)

    def _plan(
        self, path: str, stat: FileStat, recorded_ns: int, digest: str, data: bytes, known: FileRow | None
    ) -> FilePlan:
        text = classify(data)
        skip = text if isinstance(text, Skip) else None
        row = FileRow(path, stat, recorded_ns, digest, skip)
        chunks = () if isinstance(text, Skip) else self.chunker(path, text)
        stored = self.stored_chunks(path) if known is not None and known.skip is None else []
        return plan_file(self.repo, row, chunks, stored)
