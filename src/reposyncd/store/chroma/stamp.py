"""The store stamp: shows whether anybody has written to a store since all its records were known.

It has two parts. The first is a digest of the names, sizes, times and inodes of all files. If it is the same, nobody
has used the store. But a program that opens a store in Chroma changes files even if it only reads: a row is added to
`acquire_write`, and the files of indexes that were never persisted are rewritten. So if the first part differs, the
second part is compared, which ignores exactly these changes (`database.writes`).
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from dataclasses import dataclass

import xxhash

from reposyncd.store.chroma import database as chroma_db
from reposyncd.store.chroma.locks import CHROMA_LOCK, DATABASE

PERSISTED = "index_metadata.pickle"
"""A file that an index has once it has been persisted. As long as it is absent, Chroma rewrites the others."""

_TRIES = 3
"""How often to try if another program is just opening the store."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """The state of a store at one moment. Without the second part, everything but `files` is empty."""

    files: str
    """the first part; "" matches nothing"""
    content: str = ""
    """a digest of what only a write changes; "" if unknown"""
    changes: int = 0
    """the number of transactions on the database, including those that only open the store"""
    database: str = ""
    """size and modification time of the database"""

    def __str__(self) -> str:
        return " ".join([self.files, self.content, str(self.changes), self.database]) if self.content else self.files

    @classmethod
    def parse(cls, text: str) -> Stamp:
        """Reads what `str` has produced; also the first part alone, which early versions recorded."""
        match text.split(" "):
            case [files, content, changes, database] if changes.isdecimal():
                return cls(files, content, int(changes), database)
            case _:
                return cls(text)

    def is_unwritten(self, now: Stamp) -> bool:
        """Whether nobody has written to a store that had this stamp before, and has that one now.

        If the database file has changed without a transaction, something other than SQLite has changed it.
        """
        if self.files == now.files:
            return bool(self.files)
        is_same = bool(self.content) and self.content == now.content
        return is_same and (self.database == now.database or now.changes > self.changes)


def take(path: str) -> Stamp:
    """The stamp of the store at `path`. If anything is written in the meantime or later, the next stamp differs."""
    for _ in range(_TRIES):
        files = of_files(path)
        try:
            stamp = _whole(path, files)
        except (sqlite3.Error, OSError):  # damaged, locked or gone: other checks find that out
            return Stamp(files)
        if of_files(path) == files:
            return stamp
    return Stamp(files)


def recognise(recorded: Stamp, path: str) -> Stamp | None:
    """The present stamp of the store at `path`, if nobody has written to it since the recorded one was taken."""
    if recorded.content and recorded.files == of_files(path):
        return recorded
    now = take(path)  # even if the recorded one has only the first part, so that the next one has both
    return now if recorded.is_unwritten(now) else None


def of_files(path: str) -> str:
    """The first part: 32 hex digits. It opens no file."""
    lines = [os.path.basename(path)]
    for directory, names, files in os.walk(path):
        names.sort()
        for name in sorted(files):
            if name != CHROMA_LOCK:
                lines += _line(directory, name)
    return _digest(lines)


def _whole(path: str, files: str) -> Stamp:
    """Both parts. Raises sqlite3.Error or OSError if the database cannot be read."""
    stat = os.stat(os.path.join(path, DATABASE))
    writes = chroma_db.writes(path)
    lines = [os.path.basename(path), str(stat.st_ino), writes.identity]
    for directory, names, entries in os.walk(path):
        names.sort()
        if directory == path:
            for name in sorted(entries):
                if name != CHROMA_LOCK and not name.startswith(DATABASE):
                    lines += _line(directory, name)
        elif PERSISTED in entries:
            lines.append(os.path.basename(directory))
            for name in sorted(entries):
                lines += _line(directory, name)
    return Stamp(files, _digest(lines), writes.changes, f"{stat.st_size}:{stat.st_mtime_ns}")


def _line(directory: str, name: str) -> list[str]:
    with suppress(FileNotFoundError):
        stat = os.lstat(os.path.join(directory, name))
        return [f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\0{stat.st_ino}"]
    return []


def _digest(lines: list[str]) -> str:
    return xxhash.xxh3_128_hexdigest("\0\0".join(lines).encode(errors="surrogateescape"))
