"""One file: read it, and say what it means for the index."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from reposyncd.model import ChunkRow, Cut, FileRow
from reposyncd.ports import Chunker
from reposyncd.sync.plan import FilePlan, plan_file
from reposyncd.tree.read import Tree


@dataclass(frozen=True, slots=True)
class Touched:
    """The content is what is on record; the stat is new."""

    row: FileRow


@dataclass(frozen=True, slots=True)
class Read:
    """A file that was read, and is being cut."""

    row: FileRow
    """but for what the cut decides"""
    known: FileRow | None
    cut: Future[Cut]


@dataclass(frozen=True, slots=True)
class Examiner:
    """Reads files of one tree, has them cut, and plans their records."""

    repo: str
    tree: Tree
    max_file_size: int
    """bytes"""
    chunker: Chunker
    stored_chunks: Callable[[str], list[ChunkRow]]
    """the live chunks of a path"""
    now_ns: Callable[[], int]

    def read(self, path: str, known: FileRow | None) -> tuple[Read | Touched, int]:
        """The file as it is now, on its way to be cut, and how many bytes were read. Raises a FileProblem."""
        # Before the read: a change after it must make the times too young to be trusted.
        recorded_ns = self.now_ns()
        raw = self.tree.read(path, self.max_file_size)
        if known is not None and known.digest == raw.digest:
            return Touched(known._replace(stat=raw.stat, recorded_ns=recorded_ns)), len(raw.data)
        row = FileRow(path, raw.stat, recorded_ns, raw.digest, None)
        return Read(row, known, self.chunker.begin(path, raw.data, raw.digest)), len(raw.data)

    def plan(self, read: Read) -> FilePlan:
        """What a file that was cut means for the index. Raises UncutError, and TransientStoreError."""
        cut, known = read.cut.result(), read.known
        row = read.row._replace(skip=cut.skip, verdict=cut.verdict)
        stored = self.stored_chunks(row.path) if known is not None and known.skip is None else []
        return plan_file(self.repo, row, cut.chunks, stored)
