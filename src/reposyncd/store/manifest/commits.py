"""What is passed to the manifest in one transaction, and what the manifest says was interrupted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reposyncd.model import ChunkRow, FileRow


@dataclass(frozen=True, slots=True)
class FileCommit:
    """A file's new row and all its chunks. Chunks that it had before, and that are not among these, are removed."""

    row: FileRow
    chunks: tuple[ChunkRow, ...]


@dataclass(frozen=True, slots=True)
class Commit:
    """One transaction of the commit protocol."""

    files: Sequence[FileCommit] = ()
    touched: Sequence[FileRow] = ()
    """files on record whose chunks are the same, but whose stat, or the rules that judged them, are new"""
    gone: Sequence[str] = ()
    """paths of files that are no longer recorded"""
    done: Sequence[str] = ()
    """ids whose intents are fulfilled"""
    doomed: Sequence[tuple[str, str]] = ()
    """(id, path) of records to be deleted"""
    run: RunProgress | None = None
    """the progress of the run, including this commit"""


@dataclass(frozen=True, slots=True)
class RunProgress:
    """The progress of a run, for the history."""

    id: int
    files_done: int
    chunks_done: int


@dataclass(frozen=True, slots=True)
class Intents:
    """Work in the collection that a crash may have interrupted, by record id."""

    pending: tuple[str, ...] = ()
    doomed: tuple[str, ...] = ()
    relabelled: tuple[tuple[str, str], ...] = ()
    """(id, path)"""

    def __bool__(self) -> bool:
        return bool(self.pending or self.doomed or self.relabelled)
