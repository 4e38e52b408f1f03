"""The store stamp: what tells whether somebody has written to a store since all of its records were known.

Two looks. The first is at the names, sizes, times and inodes of all files; while it is the same, nobody has had
anything to do with the store. But whoever opens a store in Chroma changes files, though he only reads: a row is added
to `acquire_write`, and the files of indexes that were never persisted are written anew. So where the first look
differs, the second leaves out just that (`chroma_db.writes`).
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
"""The file that an index has from the first time on that it is persisted. Without it Chroma writes the others anew."""

_TRIES = 3
"""Looks at a store that another program opens at this moment."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a store looked like at one moment. Without the second look, all but `files` is empty."""

    files: str
    """of all files; "" matches nothing"""
    content: str = ""
    """of what only a write changes; "" if it could not be told"""
    changes: int = 0
    """transactions on the database, those that open the store included"""
    database: str = ""
    """size and time of the database"""

    def __str__(self) -> str:
        return " ".join([self.files, self.content, str(self.changes), self.database]) if self.content else self.files

    @classmethod
    def parse(cls, text: str) -> Stamp:
        """Of what `str` made of it; also of the first look alone, which is all that there once was."""
        match text.split(" "):
            case [files, content, changes, database] if changes.isdecimal():
                return cls(files, content, int(changes), database)
            case _:
                return cls(text)

    def is_unwritten(self, now: Stamp) -> bool:
        """Whether nobody has written to a store that had this stamp and has that one now.

        A database that is another file, though there was no transaction, was changed by something that is not SQLite.
        """
        if self.files == now.files:
            return bool(self.files)
        is_same = bool(self.content) and self.content == now.content
        return is_same and (self.database == now.database or now.changes > self.changes)


def take(path: str) -> Stamp:
    """The stamp of the store at `path`. What is written while it is taken, or later, makes the next one differ."""
    for _ in range(_TRIES):
        files = of_files(path)
        try:
            stamp = _second_look(path, files)
        except (sqlite3.Error, OSError):  # damaged, locked, gone: that is for others to find out
            return Stamp(files)
        if of_files(path) == files:
            return stamp
    return Stamp(files)


def recognise(recorded: Stamp, path: str) -> Stamp | None:
    """The stamp of the store at `path` as it is now, if nobody has written to it since the recorded one was taken."""
    if recorded.content and recorded.files == of_files(path):
        return recorded
    now = take(path)  # also where the recorded one has the first look alone, so that the next one has both
    return now if recorded.is_unwritten(now) else None


def of_files(path: str) -> str:
    """The first look: 32 hex digits of the names, sizes, times and inodes of all files, told without opening one."""
    lines = [os.path.basename(path)]
    for directory, names, files in os.walk(path):
        names.sort()
        for name in sorted(files):
            if name != CHROMA_LOCK:
                lines += _line(directory, name)
    return _digest(lines)


def _second_look(path: str, files: str) -> Stamp:
    """Raises sqlite3.Error or OSError if it cannot be told how far the writes have come."""
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
