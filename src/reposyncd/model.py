"""Frozen values that all rooms use. Nothing here does I/O or holds a handle.

It has more than 350 lines because it is a list of small types that refer to each other and have no logic.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, NamedTuple

from reposyncd.paths import is_within, parent

RACY_NS = 2_000_000_000
"""A time stamp is trusted only if it was older than this (nanoseconds) when it was recorded: a file can change again
within the granularity of its file system's clock, which is 2 s on FAT."""


class Skip(StrEnum):
    """Why an existing file has no chunks. `SyncResult.files.skipped` counts files by these values."""

    IGNORED = "ignored"
    """It matches an ignore rule. An ignored directory counts as one, since it is never entered."""
    BINARY = "binary"
    TOO_LARGE = "too_large"
    SPECIAL = "special"
    """A FIFO, a socket or a device."""
    SYMLINK = "symlink"
    """Links are never followed. If the target is inside the root, it is indexed at its own path."""
    WORKTREE = "worktree"
    """A linked work tree inside its own repository, which is a second copy. The directory counts as one."""
    SECRET = "secret"  # noqa: S105 - a reason, not a password
    UNDECODABLE = "undecodable"
    NAME = "name"
    """The path is not valid UTF-8, so no record could name it."""
    QUARANTINED = "quarantined"
    """It cannot be cut, not even as plain lines, or it cannot be stored: storing it failed permanently, or killed the
    index process twice. It is tried again after it has changed."""


class FileStat(NamedTuple):
    """What `stat` says about the content of a file. If these values have not changed, and both times are old enough,
    the content has not changed either."""

    size: int
    """bytes"""
    mtime_ns: int
    """nanoseconds since the epoch"""
    ctime_ns: int
    """nanoseconds since the epoch"""
    inode: int


def signed64(value: int) -> int:
    """The value, wrapped to the 64 bits of an integer in the manifest.

    Archives contain times after 2262, and some inode numbers exceed 2 ** 63. A time that wraps counts as an old one;
    the ctime still shows changes.
    """
    return (value + 2**63) % 2**64 - 2**63


class RootIdentity(NamedTuple):
    """Identifies the directory at a root. If the identity at a path has changed, the tree is another one."""

    device: int
    inode: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some whole lines of one file. The chunks of a file, joined in order, are exactly its text.

    One exception: a line that is longer than the hard limit is split, and all its pieces have its line number.
    """

    text: str
    start_line: int
    """1-based"""
    end_line: int
    """1-based, inclusive"""
    symbol: str
    """qualified name of the innermost definition around the chunk, or "" """
    language: str
    """lower-case name such as "python", or "text" """


@dataclass(frozen=True, slots=True)
class Cut:
    """The result of cutting the content of a file."""

    chunks: tuple[Chunk, ...] = ()
    skip: Skip | None = None
    """why there are no chunks"""
    verdict: str | None = None
    """why the file was cut as plain lines, or not at all, although it is text; None for nearly every file"""
    duration_s: float = field(default=0.0, compare=False)
    """how many seconds the successful attempt took; 0 if there was none"""


@dataclass(frozen=True, slots=True)
class ChunkRow:
    """What the manifest remembers of a stored chunk: its record without the text and the vector."""

    id: str
    """32 hex digits: a digest of (repo, path, text, occurrence)"""
    path: str
    """relative to the root, with `/`"""
    start_line: int
    end_line: int
    symbol: str
    language: str
    digest: str
    """xxh3_128 of the text, 32 hex digits"""

    def metadata(self, repo: str) -> dict[str, str | int]:
        """The record's metadata in Chroma, as docs/interface.md promises it."""
        return {
            "repo": repo,
            "path": self.path,
            "start_line": self.start_line,
            "end_line": self.end_line,
            "language": self.language,
            "symbol": self.symbol,
            "digest": self.digest,
        }


class NewChunk(NamedTuple):
    """A chunk to store."""

    row: ChunkRow
    text: str
    source: str | None = None
    """id of a stored chunk with the same text, whose vector may be copied"""


class Batch(NamedTuple):
    """The changes that are applied to a collection together."""

    repo: str
    added: tuple[NewChunk, ...]
    relabelled: tuple[ChunkRow, ...]
    """stored chunks whose metadata changes"""


class Applied(NamedTuple):
    """How much had to be embedded for a batch, and how long its stages took."""

    embedded: int = 0
    """texts that were embedded"""
    characters: int = 0
    """their total length"""
    embed_s: float = 0.0
    """time spent to get the vectors of texts"""
    store_s: float = 0.0
    """time spent in the store, without the wait for its lock"""


class Record(NamedTuple):
    """A chunk, as it is stored in a collection."""

    id: str
    text: str
    metadata: dict[str, str | int]
    vector: tuple[float, ...]
    """unit length; empty if it was not asked for"""


class FileRow(NamedTuple):
    """What the manifest remembers of a file whose content was read."""

    path: str
    stat: FileStat
    recorded_ns: int
    """wall clock when `stat` was read; time stamps that were younger than two seconds then are not trusted"""
    digest: str
    """xxh3_128 of the bytes, 32 hex digits"""
    skip: Skip | None
    """why the file has no chunks, as found by reading it; None if it is indexed"""
    verdict: str | None = None
    """as in `Cut`; this content is not tried again"""
    judged: int = 0
    """the version of the rules that decided this: `tree.VERSION`, negative if the file may hold secrets; 0 is the
    oldest"""


class Verdict(NamedTuple):
    """A file that is cut as plain lines, or left out, because its content harms the process that cuts or stores it."""

    path: str
    is_indexed: bool
    """whether the file is indexed, as plain lines"""
    reason: str


class DirectoryRow(NamedTuple):
    """What the manifest remembers of a directory, once all its files are on record.

    As long as the signature and the rules stay the same, nothing in the directory itself has changed, and its files
    need not be compared one by one. This says nothing about its subdirectories.
    """

    signature: bytes
    """digest of the names and stats of its entries"""
    rules: bytes
    """digest of all ignore rules that apply in it"""
    files: int
    """number of files in it that may be indexed, as far as can be told without reading them"""
    skipped: Mapping[str, int]
    """number of entries without chunks, by reason"""
    pruned: tuple[str, ...]
    """names of the subdirectories that are not entered"""


class Scope(NamedTuple):
    """The part of a tree that a sync scans. Paths are relative to the root, "" for the root."""

    flat: frozenset[str] = frozenset()
    """directories without their subdirectories"""
    trees: frozenset[str] = frozenset()
    """directories with everything below them"""

    def __bool__(self) -> bool:
        return bool(self.flat or self.trees)

    @property
    def is_whole(self) -> bool:
        """Whether it is the whole tree."""
        return "" in self.trees

    def __or__(self, other: Scope) -> Scope:
        return Scope(self.flat | other.flat, self.trees | other.trees)

    def covers(self, error: FileError) -> bool:
        """Whether a sync of this scope would meet the error again, if it still exists."""
        # A scan of a directory opens the files in it, but not its subdirectories.
        seen_from = error.path if isinstance(error, DirectoryError) else parent(error.path)
        return seen_from in self.flat or is_within(error.path, self.trees)

    def without_overlaps(self) -> Scope:
        """The same part of the tree, without directories that are inside one of the trees."""
        trees = frozenset(path for path in self.trees if not is_within(path, self.trees - {path}))
        return Scope(frozenset(path for path in self.flat if not is_within(path, trees)), trees)


WHOLE = Scope(trees=frozenset({""}))


@dataclass(frozen=True, slots=True)
class FileCounts:
    """Numbers of files in the result of a sync."""

    total: int = 0
    new: int = 0
    modified: int = 0
    deleted: int = 0
    unchanged: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict)
    plain: int = 0
    """how many of the total are cut as plain lines, because their content harms the parser; `status` names them"""


@dataclass(frozen=True, slots=True)
class ChunkCounts:
    """Numbers of chunks in the result of a sync."""

    total: int = 0
    added: int = 0
    relabelled: int = 0
    deleted: int = 0
    embedded: int = 0
    """texts that were embedded; the other added chunks took the vector of an equal text"""


@dataclass(frozen=True, slots=True)
class FileError:
    """A file that could not be brought up to date. What was stored of it stays."""

    path: str
    error: str


@dataclass(frozen=True, slots=True)
class DirectoryError(FileError):
    """A directory that could not be listed, or an entry of unknown kind."""


@dataclass(frozen=True, slots=True)
class SyncResult:
    """The result of a sync."""

    repo: str
    root: str
    files: FileCounts
    chunks: ChunkCounts
    bytes_read: int
    duration_s: float
    errors: tuple[FileError, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether nothing in the index was changed."""
        return not (self.chunks.added or self.chunks.relabelled or self.chunks.deleted)

    def plus(self, later: SyncResult) -> SyncResult:
        """The result of this sync together with that of a later sync, which continued it."""
        files, chunks = later.files, later.chunks
        new, modified = self.files.new + files.new, self.files.modified + files.modified
        return replace(
            later,
            files=replace(
                files,
                new=new,
                modified=modified,
                deleted=self.files.deleted + files.deleted,
                unchanged=max(0, files.total - new - modified),
            ),
            chunks=replace(
                chunks,
                added=self.chunks.added + chunks.added,
                relabelled=self.chunks.relabelled + chunks.relabelled,
                deleted=self.chunks.deleted + chunks.deleted,
                embedded=self.chunks.embedded + chunks.embedded,
            ),
            bytes_read=self.bytes_read + later.bytes_read,
            duration_s=self.duration_s + later.duration_s,
        )

    def to_dict(self) -> dict[str, Any]:
        """The JSON form: plain dicts, lists, strings and numbers."""
        from dataclasses import asdict

        return asdict(self)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a sync is. Totals are 0 until they are known."""

    phase: str
    """"scan", "check" (ids of the store against the manifest), "index", "checkpoint" or "verify" """
    files_done: int = 0
    """in phase "verify": records"""
    files_total: int = 0
    chunks_done: int = 0
    """chunks committed by this run"""
    trouble: str = ""
    """what it waits for, if it cannot continue: a lock, or free space on the disk"""
    cutting: str = ""
    """the file that is still being cut, if the sync can do nothing else until then: other work may go first"""


class Waiting(NamedTuple):
    """Something that keeps the store from continuing at present."""

    reason: str
    since_ns: int
    """nanoseconds since the epoch"""


class Transition(NamedTuple):
    """A change of a repository's state."""

    repo: str
    root: str
    before: str | None
    """the previous state; None for a new repository"""
    state: str
    """"current", "syncing", "pending", "paused", "degraded", "missing" or "failed" """
    reason: str
    is_waiting: bool = False
    """whether the state is degraded because a sync waits for something; if not, because some changes cause no event"""


@dataclass(frozen=True, slots=True)
class Notice:
    """What a person who searches has to know about a repository."""

    repo: str
    text: str
    is_left_out: bool
    """whether it was not searched"""


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk that answers a query."""

    repo: str
    path: str
    start_line: int
    end_line: int
    symbol: str
    language: str
    digest: str
    score: float
    """cosine similarity, at most 1; higher is nearer"""
    text: str
