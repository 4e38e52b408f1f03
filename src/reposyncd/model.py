"""Frozen values that every room speaks. Nothing here does I/O or holds a handle."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, NamedTuple

RACY_NS = 2_000_000_000
"""A time stamp must be older than the moment it was recorded by this much (nanoseconds) to be trusted: a file
can change again within the granularity of its file system's clock, which is 2 s on FAT."""


class Skip(StrEnum):
    """Why a file that exists has no chunks. The values are what `SyncResult.files.skipped` counts under."""

    IGNORED = "ignored"
    """Matched by an ignore rule. An ignored directory counts once: it is never entered."""
    BINARY = "binary"
    TOO_LARGE = "too_large"
    SPECIAL = "special"
    """A FIFO, a socket or a device."""
    SYMLINK = "symlink"
    """A link's target inside the root is indexed at its own path; a link is never followed."""
    WORKTREE = "worktree"
    """A directory that is another work tree of the repository that it lies in: a second copy. It counts once."""
    SECRET = "secret"  # noqa: S105 - a reason, not a password
    UNDECODABLE = "undecodable"
    NAME = "name"
    """The path is not valid UTF-8, so no record could name it."""
    QUARANTINED = "quarantined"
    """It can be cut not even as plain lines, or storing it failed for good or killed the index process twice. It is
    tried again when it has changed."""


class FileStat(NamedTuple):
    """What `stat` says of a file's content: equal values, both times old enough, mean equal content."""

    size: int
    """bytes"""
    mtime_ns: int
    """nanoseconds since the epoch"""
    ctime_ns: int
    """nanoseconds since the epoch"""
    inode: int


def signed64(value: int) -> int:
    """The value in the 64 bits that a manifest can hold: archives know times after 2262, file systems inode numbers
    over 2 ** 63. A time that wraps is taken for an old one; the ctime beside it tells of changes."""
    return (value + 2**63) % 2**64 - 2**63


class RootIdentity(NamedTuple):
    """Which directory a root is: the same path with another identity is another tree."""

    device: int
    inode: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """Whole lines of one file. The chunks of a file, in order, concatenate to its text exactly.

    A line longer than the hard limit is the one exception: it is cut inside, and its pieces share its number.
    """

    text: str
    start_line: int
    """1-based"""
    end_line: int
    """1-based, inclusive"""
    symbol: str
    """Qualified name of the innermost definition that encloses the chunk, or ""."""
    language: str
    """Lower-case name such as "python", or "text"."""


class Cut(NamedTuple):
    """What became of a file's bytes."""

    chunks: tuple[Chunk, ...] = ()
    skip: Skip | None = None
    """why there are none"""
    verdict: str | None = None
    """why it was cut as plain lines, or not at all, although it has text; None for nearly every file"""


@dataclass(frozen=True, slots=True)
class ChunkRow:
    """What is remembered of a stored chunk: everything in its record but the text and the vector."""

    id: str
    """32 hex digits: a digest of (repo, path, text, occurrence)."""
    path: str
    """relative to the root, with `/`"""
    start_line: int
    end_line: int
    symbol: str
    language: str
    digest: str
    """xxh3_128 of the text, 32 hex digits"""

    def metadata(self, repo: str) -> dict[str, str | int]:
        """The record's metadata in Chroma, as `docs/interface` promises it."""
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
    """A chunk to be stored."""

    row: ChunkRow
    text: str
    source: str | None = None
    """id of a stored chunk of the same text, whose vector may be copied"""


class Batch(NamedTuple):
    """What is applied to a collection at once."""

    repo: str
    added: tuple[NewChunk, ...]
    relabelled: tuple[ChunkRow, ...]
    """stored chunks whose metadata changes"""


class Applied(NamedTuple):
    """What it took to apply a batch."""

    embedded: int
    """texts sent to the embedder"""
    characters: int
    """their length"""


class Record(NamedTuple):
    """A chunk as it stands in a collection."""

    id: str
    text: str
    metadata: dict[str, str | int]
    vector: tuple[float, ...]
    """unit length; empty where it was not asked for"""


class FileRow(NamedTuple):
    """What the manifest remembers of a file that was read."""

    path: str
    stat: FileStat
    recorded_ns: int
    """wall clock when `stat` was taken; younger times than this less two seconds are not trusted"""
    digest: str
    """xxh3_128 of the bytes, 32 hex digits"""
    skip: Skip | None
    """why it has no chunks, found by reading it; None: it is indexed"""
    verdict: str | None = None
    """as in `Cut`; of this content, which is not tried again"""
    judged: int = 0
    """by which rules that was found: `tree.VERSION`, negative where the file may hold secrets; 0 is older than all"""


class Verdict(NamedTuple):
    """A file that is cut as plain lines, or left out, because of what its content does to who cuts or stores it."""

    path: str
    is_indexed: bool
    """as plain lines"""
    reason: str


class DirectoryRow(NamedTuple):
    """What the manifest remembers of a directory whose every file is recorded.

    While the signature and the rules in force are the same, nothing in it (below its subdirectories apart)
    has changed, and its files need not be compared one by one.
    """

    signature: bytes
    """digest of the names and stats of its entries"""
    rules: bytes
    """digest of every ignore rule in force in it"""
    files: int
    """files in it that were candidates for the index"""
    skipped: Mapping[str, int]
    """entries that have no chunks, by reason"""
    pruned: tuple[str, ...]
    """names of subdirectories that are not entered"""


class Scope(NamedTuple):
    """The part of a tree that is looked at. Paths are relative to the root, "" for it."""

    flat: frozenset[str] = frozenset()
    """directories without what is in their subdirectories"""
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
        """Whether a look at it finds out whether that is so by now."""
        # A look at a directory opens the files in it, and not the directories.
        seen_from = error.path if isinstance(error, DirectoryError) else error.path.rpartition("/")[0]
        return seen_from in self.flat or is_below(error.path, self.trees)

    def without_overlaps(self) -> Scope:
        """The same part, with nothing named that lies below one of the trees."""
        trees = frozenset(path for path in self.trees if not is_below(path, self.trees - {path}))
        return Scope(frozenset(path for path in self.flat if not is_below(path, trees)), trees)


WHOLE = Scope(trees=frozenset({""}))


def is_below(path: str, places: Set[str]) -> bool:
    """Whether the path is one of the places or lies below one; "" is the root, above everything."""
    if not places:
        return False
    while path not in places:
        if not path:
            return False
        path = path.rpartition("/")[0]
    return True


@dataclass(frozen=True, slots=True)
class FileCounts:
    """Files of a sync, by what was found."""

    total: int = 0
    new: int = 0
    modified: int = 0
    deleted: int = 0
    unchanged: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict)
    plain: int = 0
    """of the total: cut as plain lines, because of what their content does to the parser; `status` names them"""


@dataclass(frozen=True, slots=True)
class ChunkCounts:
    """Chunks of a sync, by what was done."""

    total: int = 0
    added: int = 0
    relabelled: int = 0
    deleted: int = 0
    embedded: int = 0
    """texts sent to the embedder; the other added chunks took the vector of an equal text"""


@dataclass(frozen=True, slots=True)
class FileError:
    """A file that could not be brought up to date; what was stored of it before is kept."""

    path: str
    error: str


@dataclass(frozen=True, slots=True)
class DirectoryError(FileError):
    """A directory that could not be listed, or an entry of which not even the kind is known."""


@dataclass(frozen=True, slots=True)
class SyncResult:
    """What a sync found and did."""

    repo: str
    root: str
    files: FileCounts
    chunks: ChunkCounts
    bytes_read: int
    duration_s: float
    errors: tuple[FileError, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether nothing was changed in the index."""
        return not (self.chunks.added or self.chunks.relabelled or self.chunks.deleted)

    def plus(self, later: SyncResult) -> SyncResult:
        """What this sync and a later one, which went on from there, did together."""
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
    """of "verify" records"""
    files_total: int = 0
    chunks_done: int = 0
    """chunks committed by this run"""
    trouble: str = ""
    """what it waits for, if it cannot go on: a lock, room on the disk"""
    cutting: str = ""
    """the file that is still being cut, if it can do nothing else meanwhile: other work may be put before it"""


class Waiting(NamedTuple):
    """Something that keeps the store from going on for now."""

    reason: str
    since_ns: int
    """nanoseconds since the epoch"""


class Transition(NamedTuple):
    """A change of a repository's state."""

    repo: str
    root: str
    before: str | None
    """the state that it had; None for a repository that is new"""
    state: str
    """"current", "syncing", "pending", "paused", "degraded", "missing" or "failed" """
    reason: str
    is_waiting: bool = False
    """whether it is degraded because a sync waits for something; otherwise because some changes give no event"""


@dataclass(frozen=True, slots=True)
class Notice:
    """What somebody who searches has to know of a repo."""

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
