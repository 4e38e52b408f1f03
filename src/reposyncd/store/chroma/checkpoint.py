"""The checkpoint: writes Chroma's log into its index files, and frees the space of deleted records, safely.

Chroma writes those files in place, and a crash in the middle ruins the store. So the checkpoint does that in a copy of
the directory. The copy replaces the original when it is complete, probed and on the disk. Whenever the process dies,
the original or the finished copy serves. An unfinished copy is a leftover, which the next start removes.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from urllib.parse import quote

from reposyncd.errors import CorruptStoreError, StoreError
from reposyncd.store.chroma import checksums
from reposyncd.store.chroma.database import DELETE, change_counter, replayed_rows
from reposyncd.store.chroma.directory import StoreDirectory
from reposyncd.store.chroma.locks import CHROMA_LOCK, DATABASE, chroma_lock, wait_for_database
from reposyncd.store.chroma.maintenance import Maintenance
from reposyncd.store.chroma.stamp import PERSISTED
from reposyncd.store.files import sync_directory
from reposyncd.store.space import require

LOG_ROWS = 2000
"""From this many rows to be replayed, a checkpoint is worth its cost: replaying them takes most of a second."""

LOG_SHARE = 20
"""A checkpoint of a large store copies much, so it waits until the log has one row for this many chunks."""

WASTE = 2
"""A collection is rewritten if its index would contain more than this many vectors for each live one."""

SMALL = 1000
"""A number of dead vectors that never matters: about a megabyte."""


@dataclass(frozen=True, slots=True)
class StoreMeasure:
    """The size of a store and its log."""

    log_rows: int
    """as counted by `database.replayed_rows`"""
    size: int
    """bytes of all files"""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a checkpoint has to do."""

    compact: tuple[str, ...]
    """collections that are rewritten without their deleted records"""


def examine(path: str) -> StoreMeasure:
    """Measures the store at `path`. Must not be called in a process that has it open in Chroma; see `database`."""
    size = sum(
        os.lstat(os.path.join(directory, name)).st_size for directory, _, names in os.walk(path) for name in names
    )
    return StoreMeasure(replayed_rows(path), size)


def is_due(condition: StoreMeasure, live: int) -> bool:
    """Whether a checkpoint is worth its cost for a store with this many live records."""
    return condition.log_rows > max(LOG_ROWS, live // LOG_SHARE)


def plan(elements: Mapping[str, int], live: Mapping[str, int]) -> Plan:
    """What to do, given how many vectors each collection's index would contain, and how many of them are live."""
    return Plan(tuple(name for name, count in live.items() if elements.get(name, 0) > WASTE * count + SMALL))


def elements(path: str) -> dict[str, int]:
    """How many vectors, dead ones included, each collection's index will contain once the log is written into it."""
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
    """One checkpoint of the store that serves in `directory`, in steps, so that tests can simulate a crash after each.

    `maintain` starts a process on the given directory; `release` closes the original.
    """

    def __init__(
        self,
        directory: StoreDirectory,
        live: Mapping[str, int],
        *,
        maintain: Callable[[str], Maintenance],
        release: Callable[[], None],
        lock_timeout_s: float,
    ) -> None:
        original = directory.current()
        if original is None:
            raise CorruptStoreError(f"{directory.link} is gone")
        self._directory = directory
        self._original = original
        self._live = live
        self._maintain = maintain
        self._release = release
        self._lock_timeout_s = lock_timeout_s

    def steps(self) -> tuple[Callable[[], None], ...]:
        """The steps, in this order. Nothing changes before the last one."""
        return (self.copy, self.persist, self.vacuum, self.probe, self.sync, self.swap)

    def copy(self) -> None:
        """Copies the directory while nobody writes to it."""
        size = examine(self._original).size
        require(os.path.dirname(self._original), 2 * size, "a checkpoint of the store")
        self._copy = self._directory.new()
        with self._alone():
            self._version = change_counter(self._original)
            shutil.copytree(
                self._original, self._copy, dirs_exist_ok=True, ignore=lambda directory, names: {CHROMA_LOCK}
            )
            # The same file in both: after the swap, programs that wait for the lock still wait for the right one.
            os.link(os.path.join(self._original, CHROMA_LOCK), os.path.join(self._copy, CHROMA_LOCK))

    def persist(self) -> None:
        """Has Chroma write the log into the index files of the copy."""
        with self._maintain(self._copy) as process:
            process.persist(plan(elements(self._copy), self._live).compact)

    def vacuum(self) -> None:
        """Returns unused space in the copy to the file system."""
        with _database(self._copy) as db:
            segments = dict(
                db.execute(
                    "SELECT segments.id, collections.name FROM segments"
                    " JOIN collections ON collections.id = segments.collection"
                )
            )
            # Merges deleted rows. A SQLite without Chroma's tokenizer cannot do this.
            with suppress(sqlite3.OperationalError):
                db.execute("INSERT INTO embedding_fulltext_search (embedding_fulltext_search) VALUES ('optimize')")
            db.execute("VACUUM")
        directories = [entry for entry in os.scandir(self._copy) if entry.is_dir(follow_symlinks=False)]
        for entry in directories:
            if entry.name not in segments:
                shutil.rmtree(entry.path)
        ours = [entry.name for entry in directories if segments.get(entry.name) in self._live]
        checksums.write(self._copy, ours)

    def probe(self) -> None:
        """Checks in a new process that the copy has what the manifest says. Raises CorruptStoreError if not."""
        with self._maintain(self._copy) as process:
            for collection, expected in self._live.items():
                process.probe(collection)
                if (count := process.count(collection)) != expected:
                    raise CorruptStoreError(f"{collection} has {count} records in the store, and {expected} on record")

    def sync(self) -> None:
        """Makes every byte of the copy durable."""
        for directory, _, names in os.walk(self._copy):
            for name in names:
                descriptor = os.open(os.path.join(directory, name), os.O_RDONLY | os.O_CLOEXEC)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
            sync_directory(directory)

    def swap(self) -> None:
        """Makes the copy serve, and removes the original. Raises StoreError if somebody wrote to the original."""
        with self._alone():
            if change_counter(self._original) != self._version:
                raise StoreError(
                    "another program has written to the store in the meantime; the checkpoint will be made later"
                )
            self._release()
            self._directory.serve(self._copy)
        self._directory.clean()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """In this block, nobody else writes to the original."""
        with chroma_lock(self._original, self._lock_timeout_s), open(_path(self._original), "rb") as database:
            wait_for_database(database.fileno(), self._original, self._lock_timeout_s)
            yield


def _database(path: str) -> closing[sqlite3.Connection]:
    """The database of the copy at `path`, which no other program knows."""
    return closing(sqlite3.connect(f"file:{quote(_path(path))}?mode=rw", uri=True, isolation_level=None))


def _path(path: str) -> str:
    return os.path.join(path, DATABASE)
