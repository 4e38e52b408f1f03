"""A fresh look at a store in which somebody has met trouble: is it damaged, or was that a fault that has passed?

The look is had by a child process of its own, and comes to an end only if the store is sound: every byte of it can be
read, its index files are those that were written, its database does not contradict itself, and Chroma opens it and
gives back every record. What is raised says what it is:

- CorruptStoreError, and LethalOperationError (the child crashed, twice): the store is damaged;
- UnreadableStoreError: the disk does not give back what is in a file;
- any other TransientStoreError: no look could be had (no room, no memory, a lock), and nothing is known.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from typing import Protocol
from urllib.parse import quote

from reposyncd.errors import CorruptStoreError, TransientStoreError, UnreadableStoreError
from reposyncd.store.chroma import checksums
from reposyncd.store.chroma.directory import translated
from reposyncd.store.chroma.space import require
from reposyncd.store.locks import CHROMA_LOCK, DATABASE
from reposyncd.store.manifest.database import CORRUPT, primary_code

_BLOCK = 1 << 20
"""Bytes that are read, or tried out for writing, at once."""

_SLICE = 1000
"""Records that are read at once."""

READ_S_PER_BYTE = 1 / 20e6
"""How long reading a file of the store may take, on a slow disk."""


class Looker(Protocol):
    """A process that has a store to itself, as `process.IndexProcess` does."""

    def survey(self) -> None:
        """As `survey` here."""

    def collections(self) -> dict[str, dict[str, str]]:
        """The metadata of every collection, by its name."""

    def probe(self, collection: str) -> None:
        """Raises CorruptStoreError if records cannot be read or found."""

    def ids(self, collection: str) -> set[str]:
        """The ids of every record."""

    def read(self, collection: str, ids: Sequence[str]) -> None:
        """Reads these records, vectors included."""


def look(process: Looker, collections: Iterable[str]) -> None:
    """Returns if the store is sound, as far as these collections, those of them that are there, are concerned."""
    process.survey()
    there = process.collections()
    for name in collections:
        if name in there:
            process.probe(name)
            ids = sorted(process.ids(name))
            for start in range(0, len(ids), _SLICE):
                process.read(name, ids[start : start + _SLICE])


def survey(path: str) -> None:
    """What can be told of the store at `path` without Chroma. Nobody writes to it, and it is open in no other thread
    of this process."""
    require(path, 0, "looking at the store")
    with translated(path):
        _try_to_write(path)
    for name in _files(path):
        _read(name)
    checksums.check(path)
    _check_database(os.path.join(path, DATABASE))


def size(path: str) -> int:
    """Bytes of all files of the store."""
    return sum(os.lstat(name).st_size for name in _files(path) if os.path.lexists(name))


def _try_to_write(path: str) -> None:
    """A file without a name is written there, made durable and read again."""
    with tempfile.TemporaryFile(dir=path, buffering=0) as file:
        written = os.urandom(_BLOCK)
        file.write(written)
        os.fsync(file.fileno())
        file.seek(0)
        if file.read(_BLOCK) != written:
            raise OSError(errno.EIO, "what is written cannot be read again", path)


def _files(path: str) -> Iterator[str]:
    for directory, _, names in os.walk(path):
        for name in sorted(names):
            if name != CHROMA_LOCK:
                yield os.path.join(directory, name)


def _read(name: str) -> None:
    try:
        with open(name, "rb", buffering=0) as file:
            while file.read(_BLOCK):
                pass
    except FileNotFoundError:
        return  # a journal that has ended meanwhile
    except OSError as error:
        kind = UnreadableStoreError if error.errno == errno.EIO else TransientStoreError
        raise kind(f"{name} cannot be read: {error.strerror}") from error


def _check_database(path: str) -> None:
    if not os.path.exists(path):
        return  # Chroma makes another
    try:
        # Not "ro": a journal that a crash has left is a part of it.
        with closing(sqlite3.connect(f"file:{quote(path)}?mode=rw", uri=True, isolation_level=None)) as db:
            [found] = db.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        raise (CorruptStoreError if primary_code(error) in CORRUPT else TransientStoreError)(
            f"{path}: {error}"
        ) from error
    if found != "ok":
        raise CorruptStoreError(f"{path} contradicts itself (PRAGMA quick_check)")
