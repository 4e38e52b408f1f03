"""Inspects a store after an error: is it damaged, or was that a fault that has passed?

A separate child process does that. It succeeds only if the store is sound: every byte can be read, the index files are
what was written, the database does not contradict itself, and Chroma opens the store and returns every record. If not,
the exception says what was found:

- CorruptStoreError, or LethalOperationError (the child crashed twice): the store is damaged;
- UnreadableStoreError: the disk cannot read a file;
- any other TransientStoreError: the store could not be inspected (no space, no memory, a lock), so nothing is known.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing
from urllib.parse import quote

from reposyncd.errors import CorruptStoreError, TransientStoreError, UnreadableStoreError
from reposyncd.store.chroma import checksums
from reposyncd.store.chroma.locks import CHROMA_LOCK, DATABASE
from reposyncd.store.chroma.maintenance import Maintenance
from reposyncd.store.files import translated
from reposyncd.store.manifest.database import CORRUPT, primary_code
from reposyncd.store.space import require

_BLOCK = 1 << 20
"""How many bytes are read or written at once."""

_SLICE = 1000
"""How many records are read at once."""

READ_S_PER_BYTE = 1 / 20e6
"""How long reading one byte of the store may take, on a slow disk."""


def inspect(process: Maintenance, collections: Iterable[str]) -> None:
    """Returns if the store is sound as far as these collections go. Absent collections are ignored."""
    process.survey()
    there = process.collections()
    for name in collections:
        if name in there:
            process.probe(name)
            ids = sorted(process.ids(name))
            for start in range(0, len(ids), _SLICE):
                process.read(name, ids[start : start + _SLICE])


def survey(path: str) -> None:
    """Checks everything in the store at `path` that can be checked without Chroma. In the meantime, nobody may write to
    it, or have it open in another thread of this process."""
    require(path, 0, "inspecting the store")
    with translated(path):
        _try_to_write(path)
    for name in _files(path):
        _read(name)
    checksums.check(path)
    _check_database(os.path.join(path, DATABASE))


def size(path: str) -> int:
    """The size of all files of the store, in bytes."""
    return sum(os.lstat(name).st_size for name in _files(path) if os.path.lexists(name))


def _try_to_write(path: str) -> None:
    """Writes a file without a name, makes it durable, and reads it back."""
    with tempfile.TemporaryFile(dir=path, buffering=0) as file:
        written = os.urandom(_BLOCK)
        file.write(written)
        os.fsync(file.fileno())
        file.seek(0)
        if file.read(_BLOCK) != written:
            raise OSError(errno.EIO, "what was written cannot be read back", path)


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
        return  # it was a journal, whose transaction has ended in the meantime
    except OSError as error:
        kind = UnreadableStoreError if error.errno == errno.EIO else TransientStoreError
        raise kind(f"{name} cannot be read: {error.strerror}") from error


def _check_database(path: str) -> None:
    if not os.path.exists(path):
        return  # Chroma creates another
    try:
        # Not "ro": a journal that a crash has left behind must be applied.
        with closing(sqlite3.connect(f"file:{quote(path)}?mode=rw", uri=True, isolation_level=None)) as db:
            [found] = db.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        raise (CorruptStoreError if primary_code(error) in CORRUPT else TransientStoreError)(
            f"{path}: {error}"
        ) from error
    if found != "ok":
        raise CorruptStoreError(f"{path} contradicts itself (PRAGMA quick_check)")
