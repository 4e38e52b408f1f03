"""The checkpoint: Chroma's log written into its index files, what was deleted reclaimed, safely.

Chroma writes those files in place, and dies of a crash in the middle. So it does that in a copy of its directory,
which takes the place of the original when it is complete, probed and on the disk. Whatever moment the process dies
at, the original or the finished copy serves; a half-done copy is a leftover that the next start removes.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote

from reposyncd.errors import CorruptStoreError, StoreError
from reposyncd.store.chroma import checksums
from reposyncd.store.chroma.database import DELETE, change_counter, replayed_rows
from reposyncd.store.chroma.directory import StoreDirectory, sync_directory
from reposyncd.store.chroma.space import require
from reposyncd.store.chroma.stamp import PERSISTED
from reposyncd.store.locks import CHROMA_LOCK, DATABASE, chroma_lock, wait_for_database

LOG_ROWS = 2000
"""Rows to be replayed that are worth a checkpoint: that takes most of a second at each start."""

LOG_SHARE = 20
"""In a large store a checkpoint copies much, so it waits until the log has a row for this many chunks."""

WASTE = 2
"""A collection is rewritten when its index would hold more than this many vectors for each live one."""

SMALL = 1000
"""Dead vectors that never matter: about a megabyte."""

REPLAY_S_PER_ROW = 0.002
"""How long replaying a row of the log may take: about 0.4 ms were measured."""

COPY_S_PER_BYTE = 1 / 20e6
"""How long copying, reading and syncing may take, on a slow disk."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A store, seen from outside."""

    log_rows: int
    """as `chroma_db.replayed_rows` counts them"""
    size: int
    """bytes of all files"""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a checkpoint is to do."""

    compact: tuple[str, ...]
    """collections that are written anew, without what was deleted"""


class Persister(Protocol):
    """A process that works on a copy, as `process.IndexProcess` does."""

    def persist(self, compact: Sequence[str]) -> None:
        """Writes the log into the index files; `compact` are written anew."""

    def count(self, collection: str) -> int:
        """How many records there are."""

    def probe(self, collection: str) -> None:
        """Raises CorruptStoreError if records cannot be read or found."""

    def close(self) -> None:
        """Ends the process."""


def examine(path: str) -> Condition:
    """What state the store at `path` is in. Never in a process that has it open in Chroma; see `chroma_db`."""
    size = sum(
        os.lstat(os.path.join(directory, name)).st_size for directory, _, names in os.walk(path) for name in names
    )
    return Condition(replayed_rows(path), size)


def is_due(condition: Condition, live: int) -> bool:
    """Whether a store with this many live records is worth a checkpoint."""
    return condition.log_rows > max(LOG_ROWS, live // LOG_SHARE)


def plan(elements: Mapping[str, int], live: Mapping[str, int]) -> Plan:
    """What to do, from the vectors that each collection's index would hold, and the live ones of our collections."""
    return Plan(tuple(name for name, count in live.items() if elements.get(name, 0) > WASTE * count + SMALL))


def elements(path: str) -> dict[str, int]:
    """How many vectors, dead ones included, each collection's index has when the log is written into it."""
    with _database(path) as db:
        rows = db.execute(
            "SELECT collections.name, segments.id, collections.id FROM segments"
            " JOIN collections ON collections.id = segments.collection WHERE segments.scope = 'VECTOR'"
        ).fetchall()
        logged = db.execute(
            "SELECT topic, count(*) FROM embeddings_queue WHERE operation <> ? AND vector IS NOT NULL GROUP BY topic",
            (DELETE,),
        ).fetchall()
    by_collection = {topic.rpartition("/")[2]: count for topic, count in logged}
    found: dict[str, int] = {}
    for name, segment, collection in rows:
        lengths = os.path.join(path, segment, "length.bin")  # four bytes for each vector
        persisted = os.path.exists(os.path.join(path, segment, PERSISTED))
        found[name] = (os.path.getsize(lengths) // 4 if persisted else 0) + by_collection.get(collection, 0)
    return found


class Checkpoint:
    """One checkpoint of the store at `place`, as steps, so that what a crash leaves after each can be tried out.

    `make_persister` makes the process that works on the directory it is given; `release` lets go of the original.
    """

    def __init__(
        self,
        place: StoreDirectory,
        live: Mapping[str, int],
        *,
        make_persister: Callable[[str], Persister],
        release: Callable[[], None],
        lock_timeout_s: float,
    ) -> None:
        original = place.current()
        if original is None:
            raise CorruptStoreError(f"{place.link} is gone")
        self._place = place
        self._original = original
        self._live = live
        self._make_persister = make_persister
        self._release = release
        self._lock_timeout_s = lock_timeout_s

    def steps(self) -> tuple[Callable[[], None], ...]:
        """To be done in order, all or the first ones: until the last is done nothing has changed."""
        return (self.copy, self.persist, self.vacuum, self.probe, self.sync, self.swap)

    def copy(self) -> None:
        """A copy of the directory, made while nobody writes."""
        size = examine(self._original).size
        require(os.path.dirname(self._original), 2 * size, "tidying the store")
        self._copy = self._place.new()
        with self._alone():
            self._version = change_counter(self._original)
            shutil.copytree(
                self._original, self._copy, dirs_exist_ok=True, ignore=lambda directory, names: {CHROMA_LOCK}
            )
            # The same file in both: who waits for the lock waits for the right one after the swap, too.
            os.link(os.path.join(self._original, CHROMA_LOCK), os.path.join(self._copy, CHROMA_LOCK))

    def persist(self) -> None:
        """Chroma's part: the log is written into the index files of the copy."""
        persister = self._make_persister(self._copy)
        try:
            persister.persist(plan(elements(self._copy), self._live).compact)
        finally:
            persister.close()

    def vacuum(self) -> None:
        """What nothing refers to is given back to the file system."""
        with _database(self._copy) as db:
            segments = dict(
                db.execute(
                    "SELECT segments.id, collections.name FROM segments"
                    " JOIN collections ON collections.id = segments.collection"
                )
            )
            with suppress(
                sqlite3.OperationalError
            ):  # a SQLite that lacks Chroma's tokenizer; the others merge what was deleted
                db.execute("INSERT INTO embedding_fulltext_search (embedding_fulltext_search) VALUES ('optimize')")
            db.execute("VACUUM")
        directories = [entry for entry in os.scandir(self._copy) if entry.is_dir(follow_symlinks=False)]
        for entry in directories:
            if entry.name not in segments:
                shutil.rmtree(entry.path)
        ours = [entry.name for entry in directories if segments.get(entry.name) in self._live]
        checksums.write(self._copy, ours)

    def probe(self) -> None:
        """A fresh process finds in the copy what the manifest says. Raises CorruptStoreError if not."""
        persister = self._make_persister(self._copy)
        try:
            for collection, expected in self._live.items():
                persister.probe(collection)
                if (count := persister.count(collection)) != expected:
                    raise CorruptStoreError(f"{collection} has {count} records in the store, and {expected} on record")
        finally:
            persister.close()

    def sync(self) -> None:
        """Every byte of the copy is on the disk."""
        for directory, _, names in os.walk(self._copy):
            for name in names:
                descriptor = os.open(os.path.join(directory, name), os.O_RDONLY | os.O_CLOEXEC)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
            sync_directory(directory)

    def swap(self) -> None:
        """The copy serves, and the original is removed. Raises StoreError if somebody wrote to the original."""
        with self._alone():
            if change_counter(self._original) != self._version:
                raise StoreError("another program has written to the store meanwhile; it is tidied another time")
            self._release()
            self._place.serve(self._copy)
        self._place.clean()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody writes to the original."""
        with chroma_lock(self._original, self._lock_timeout_s), open(_path(self._original), "rb") as database:
            wait_for_database(database.fileno(), self._original, self._lock_timeout_s)
            yield


def _database(path: str) -> closing[sqlite3.Connection]:
    """The database of a copy at `path`, which nobody else knows."""
    return closing(sqlite3.connect(f"file:{quote(_path(path))}?mode=rw", uri=True, isolation_level=None))


def _path(path: str) -> str:
    return os.path.join(path, DATABASE)
