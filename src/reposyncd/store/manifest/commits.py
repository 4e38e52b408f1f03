"""What is handed to the manifest in one transaction, and what it says was left half done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reposyncd.model import ChunkRow, FileRow


@dataclass(frozen=True, slots=True)
class FileCommit:
    """A file's new row and all its chunks; a chunk it had before that is not among them is gone."""

    row: FileRow
    chunks: tuple[ChunkRow, ...]


@dataclass(frozen=True, slots=True)
class Commit:
    """One transaction of the commit protocol."""

    files: Sequence[FileCommit] = ()
    touched: Sequence[FileRow] = ()
    """files on record whose chunks are the same, and whose stat, or the rules they were judged by, are new"""
    gone: Sequence[str] = ()
    """paths of files that are recorded no longer"""
    done: Sequence[str] = ()
    """ids whose intents are fulfilled"""
    doomed: Sequence[tuple[str, str]] = ()
    """(id, path) of records to be deleted"""
    run: RunProgress | None = None
    """how far the run has come with it"""


@dataclass(frozen=True, slots=True)
class RunProgress:
    """How far a run is, as its history is to say."""

    id: int
    files_done: int
    chunks_done: int


@dataclass(frozen=True, slots=True)
class Intents:
    """Work in the collection that a crash may have left half done, by record id."""

    pending: tuple[str, ...] = ()
    doomed: tuple[str, ...] = ()
    relabelled: tuple[tuple[str, str], ...] = ()
    """(id, path)"""

    def __bool__(self) -> bool:
        return bool(self.pending or self.doomed or self.relabelled)
