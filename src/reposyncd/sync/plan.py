"""Decides what has changed in a file, and what that means for its records. Pure: no I/O, no clock, no handles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

import xxhash

from reposyncd.model import RACY_NS, Chunk, ChunkRow, FileRow, FileStat, NewChunk


def is_unchanged(known: FileRow, stat: FileStat) -> bool:
    """Whether the stat alone proves that the file has the content that is on record."""
    return known.stat == stat and max(stat.mtime_ns, stat.ctime_ns) < known.recorded_ns - RACY_NS


def text_digest(text: str) -> str:
    """xxh3_128 of the text's UTF-8 bytes, 32 hex digits."""
    return xxhash.xxh3_128_hexdigest(text.encode())


def chunk_id(repo: str, path: str, digest: str, occurrence: int) -> str:
    """The id of a chunk, 32 hex digits. It does not depend on line numbers: a chunk that moves within its file keeps
    its id.

    `digest` is that of the text. `occurrence` is the number of chunks with the same text before this one in the file.
    """
    return xxhash.xxh3_128_hexdigest(f"{repo}\0{path}\0{digest}\0{occurrence}".encode())


@dataclass(frozen=True, slots=True)
class FilePlan:
    """The changes that bring the records of one file up to date."""

    row: FileRow
    chunks: tuple[ChunkRow, ...]
    """all chunks that the file has now"""
    added: tuple[NewChunk, ...]
    """chunks without a record"""
    relabelled: tuple[ChunkRow, ...]
    """chunks whose record gets other metadata, such as line numbers"""
    doomed: tuple[str, ...]
    """ids of the records to delete"""

    @property
    def changes_nothing(self) -> bool:
        """Whether the records are up to date already."""
        return not (self.added or self.relabelled or self.doomed)


def plan_file(repo: str, row: FileRow, chunks: Sequence[Chunk], known: Sequence[ChunkRow]) -> FilePlan:
    """Compares the chunks that a file has now with those on record."""
    before = {old.id: old for old in known}
    occurrences: dict[str, int] = {}
    rows: list[ChunkRow] = []
    added: list[NewChunk] = []
    relabelled: list[ChunkRow] = []
    for chunk in chunks:
        digest = text_digest(chunk.text)
        occurrence = occurrences.get(digest, 0)
        occurrences[digest] = occurrence + 1
        now = ChunkRow(
            chunk_id(repo, row.path, digest, occurrence),
            row.path,
            chunk.start_line,
            chunk.end_line,
            chunk.symbol,
            chunk.language,
            digest,
        )
        rows.append(now)
        old = before.pop(now.id, None)
        if old is None:
            added.append(NewChunk(now, chunk.text))
        elif old != now:
            relabelled.append(now)
    return FilePlan(row, tuple(rows), tuple(added), tuple(relabelled), tuple(before))


def with_sources(added: Sequence[NewChunk], stored: Mapping[str, str], orphans: Set[str]) -> tuple[NewChunk, ...]:
    """The chunks, each with the id of a record whose vector can be copied, if there is one.

    `orphans` are ids of stored records that the manifest does not know. If the id of a chunk is an orphan, that is its
    source; else the id that `stored` (text digest to id) has for the same text.
    """
    return tuple(
        chunk._replace(source=chunk.row.id if chunk.row.id in orphans else stored.get(chunk.row.digest))
        for chunk in added
    )
