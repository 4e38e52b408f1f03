"""What differs, decided from values alone: no I/O, no clock, no handle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

import xxhash

from reposyncd.model import RACY_NS, Chunk, ChunkRow, FileRow, FileStat, NewChunk


def is_unchanged(known: FileRow, stat: FileStat) -> bool:
    """Whether the stat alone proves that the content is what was recorded."""
    return known.stat == stat and max(stat.mtime_ns, stat.ctime_ns) < known.recorded_ns - RACY_NS


def text_digest(text: str) -> str:
    """xxh3_128 of the text's UTF-8 bytes, 32 hex digits."""
    return xxhash.xxh3_128_hexdigest(text.encode())


def chunk_id(repo: str, path: str, digest: str, occurrence: int) -> str:
    """32 hex digits. Never of line numbers: a chunk that moves within its file keeps its id.

    `occurrence` counts the equal texts of the file before this one.
    """
    return xxhash.xxh3_128_hexdigest(f"{repo}\0{path}\0{digest}\0{occurrence}".encode())


@dataclass(frozen=True, slots=True)
class FilePlan:
    """What makes the records of one file true."""

    row: FileRow
    chunks: tuple[ChunkRow, ...]
    """every chunk that the file has now"""
    added: tuple[NewChunk, ...]
    relabelled: tuple[ChunkRow, ...]
    doomed: tuple[str, ...]
    """ids of records that are no longer wanted"""

    @property
    def changes_nothing(self) -> bool:
        """Whether the records are true as they are."""
        return not (self.added or self.relabelled or self.doomed)


def plan_file(repo: str, row: FileRow, chunks: Sequence[Chunk], known: Sequence[ChunkRow]) -> FilePlan:
    """The difference between the chunks a file has now and those on record."""
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


def with_sources(added: Sequence[NewChunk], stored: Mapping[str, str], found: Set[str]) -> tuple[NewChunk, ...]:
    """The chunks, each told the id of a record whose vector it may take: its own if it was `found`, else the one of a
    stored chunk with the same text, if `stored` (by digest) has one."""
    return tuple(
        chunk._replace(source=chunk.row.id if chunk.row.id in found else stored.get(chunk.row.digest))
        for chunk in added
    )
