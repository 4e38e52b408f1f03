"""Chroma's database, read without Chroma, by a process that never has it open in Chroma.

Closing a file drops every lock that the process has on it, even those of other threads and of SQLite
(sqlite.org/howtocorrupt.html, section 2.2). So a process reads it in one thread at a time, and the index process never.
Every function raises sqlite3.Error if the database is damaged, or locked for longer than `_BUSY_S`, and OSError if it
is absent.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from urllib.parse import quote

import xxhash

from reposyncd.store.chroma.locks import DATABASE

FEWEST_PERSISTED = 2
"""The fewest rows of a collection's log that Chroma can be made to persist: its least `sync_threshold`."""

DELETE = 3
"""Chroma's number for a deletion, in its log."""

_BUSY_S = 1.0
"""How long to wait for a transaction of another process. Chroma's commits take milliseconds."""

_HEADER_SIZE = 28
"""Bytes of the header up to the end of the change counter (sqlite.org/fileformat.html, section 1.3)."""

_CHANGES = slice(24, 28)
"""Where the header has the change counter, big-endian."""

_WRITE_VERSION, _ROLLBACK_JOURNAL = 18, b"\x01"
"""Where the header has the kind of journal, and the one with which the change counter counts every transaction."""

_REPLAYED = """
    SELECT count(*) AS rows
    FROM embeddings_queue
    JOIN segments ON segments.scope = 'VECTOR' AND segments.collection = substr(embeddings_queue.topic, -36)
    LEFT JOIN max_seq_id ON max_seq_id.segment_id = segments.id
    WHERE embeddings_queue.seq_id > coalesce(max_seq_id.seq_id, 0)
    GROUP BY segments.id
"""
"""For each collection, the rows of the log that are not in its index files. The last one that is stays in the log."""

_IDENTITY = (
    "SELECT id, name FROM collections ORDER BY id",
    "SELECT id, scope, collection FROM segments ORDER BY id",
    "SELECT segment_id, seq_id FROM max_seq_id ORDER BY segment_id",
    "SELECT seq_id, created_at, operation, topic, id FROM embeddings_queue ORDER BY seq_id DESC LIMIT 1",
)
"""What differs between two stores with the same number of writes. A few rows each."""


@dataclass(frozen=True, slots=True)
class Writes:
    """How far the writes to a database have come. If only `changes` differs, nobody has written in between."""

    changes: int
    """SQLite's count of transactions"""
    identity: str
    """32 hex digits; opening the store in Chroma and reading from it do not change them"""


def replayed_rows(path: str) -> int:
    """How many rows of the log of the store at `path` are replayed when it is opened, and would be written into the
    index files by a checkpoint. (A collection's only row does not count: Chroma cannot persist it.)"""
    with _reading(path) as (db, _):
        return sum(rows for (rows,) in db.execute(_REPLAYED) if rows >= FEWEST_PERSISTED)


def persisted_segments(path: str) -> frozenset[str]:
    """The vector segments of the store at `path` that Chroma has persisted.

    This goes by `max_seq_id`, as in Chroma. The index files of the others are empty, and are written anew whenever
    they are opened.
    """
    with _reading(path) as (db, _):
        rows = db.execute(
            "SELECT segments.id FROM segments JOIN max_seq_id ON max_seq_id.segment_id = segments.id"
            " WHERE segments.scope = 'VECTOR' AND max_seq_id.seq_id > 0"
        ).fetchall()
    return frozenset(id for (id,) in rows)


def writes(path: str) -> Writes:
    """How far the writes to the store at `path` have come.

    Every transaction of any program increases SQLite's change counter by one. Opening the store in Chroma is one
    transaction, which adds one row to `acquire_write`. So the difference is the number of all others.
    """
    if _header(path)[_WRITE_VERSION : _WRITE_VERSION + 1] != _ROLLBACK_JOURNAL:  # before SQLite makes files for it
        raise sqlite3.NotSupportedError(f"{path}: with a write-ahead log not every transaction is counted")
    with _reading(path) as (db, header):
        changes = int.from_bytes(header[_CHANGES], "big")
        [openings] = db.execute("SELECT coalesce(max(id), 0) FROM acquire_write").fetchone()
        identity = repr([changes - openings, *(db.execute(query).fetchall() for query in _IDENTITY)])
    return Writes(changes, xxhash.xxh3_128_hexdigest(identity.encode(errors="surrogateescape")))


def change_counter(path: str) -> bytes:
    """SQLite's count of the transactions of the database. The caller makes sure that there are none meanwhile."""
    return _header(path)[_CHANGES]


def _header(path: str) -> bytes:
    with _one_reader, open(os.path.join(path, DATABASE), "rb") as file:
        return file.read(_HEADER_SIZE)


_one_reader = threading.Lock()


@contextmanager
def _reading(path: str) -> Iterator[tuple[sqlite3.Connection, bytes]]:
    """A transaction that reads, and the header as it is in that transaction. Writes nothing: a journal that a crash has
    left is an error."""
    database = os.path.join(path, DATABASE)
    with (
        _one_reader,
        open(database, "rb") as file,  # closed last, since that ends the transaction's lock
        closing(
            sqlite3.connect(f"file:{quote(database)}?mode=ro", uri=True, isolation_level=None, timeout=_BUSY_S)
        ) as db,
    ):
        db.execute("BEGIN")
        db.execute("SELECT count(*) FROM sqlite_master").fetchone()  # from here on nobody writes to the file
        header = os.pread(file.fileno(), _HEADER_SIZE, 0)
        yield db, header
