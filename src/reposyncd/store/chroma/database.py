"""Reads Chroma's database without Chroma, in a process that never has it open in Chroma.

When a process closes a file, it loses every lock that it has on that file, even locks of other threads and of SQLite
(sqlite.org/howtocorrupt.html, section 2.2). So only one thread of a process may read the database at a time, and the
index process never does. Every function raises sqlite3.Error if the database is damaged, or locked for longer than
`_BUSY_S`, and OSError if it is absent.
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
"""The smallest number of log rows of a collection that Chroma can persist: its smallest `sync_threshold`."""

DELETE = 3
"""Chroma's number for a deletion in its log."""

_BUSY_S = 1.0
"""How long to wait for a transaction of another process. Chroma's commits take milliseconds."""

_HEADER_SIZE = 28
"""Bytes of the header up to the end of the change counter (sqlite.org/fileformat.html, section 1.3)."""

_CHANGES = slice(24, 28)
"""Where the change counter is in the header, big-endian."""

_WRITE_VERSION, _ROLLBACK_JOURNAL = 18, b"\x01"
"""Where the journal mode is in the header, and the mode in which the change counter counts every transaction."""

_REPLAYED = """
    SELECT count(*) AS rows
    FROM embeddings_queue
    JOIN segments ON segments.scope = 'VECTOR' AND segments.collection = substr(embeddings_queue.topic, -36)
    LEFT JOIN max_seq_id ON max_seq_id.segment_id = segments.id
    WHERE embeddings_queue.seq_id > coalesce(max_seq_id.seq_id, 0)
    GROUP BY segments.id
"""
"""For each collection, how many log rows are not in its index files. The last one that is there stays in the log."""

_IDENTITY = (
    "SELECT id, name FROM collections ORDER BY id",
    "SELECT id, scope, collection FROM segments ORDER BY id",
    "SELECT segment_id, seq_id FROM max_seq_id ORDER BY segment_id",
    "SELECT seq_id, created_at, operation, topic, id FROM embeddings_queue ORDER BY seq_id DESC LIMIT 1",
)
"""What differs between two stores with the same number of writes. A few rows each."""


@dataclass(frozen=True, slots=True)
class Writes:
    """Identifies the writes to a database so far. If only `changes` differs, nobody has written in between."""

    changes: int
    """SQLite's count of transactions"""
    identity: str
    """32 hex digits; opening the store in Chroma, or reading from it, does not change them"""


def replayed_rows(path: str) -> int:
    """How many log rows of the store at `path` are replayed whenever it is opened, and would be written into the index
    files by a checkpoint. (The only row of a collection does not count: Chroma cannot persist it.)"""
    with _reading(path) as (db, _):
        return sum(rows for (rows,) in db.execute(_REPLAYED) if rows >= FEWEST_PERSISTED)


def persisted_segments(path: str) -> frozenset[str]:
    """The vector segments of the store at `path` that Chroma has persisted.

    Like Chroma, this uses `max_seq_id`. The index files of all other segments are empty, and are rewritten whenever
    they are opened.
    """
    with _reading(path) as (db, _):
        rows = db.execute(
            "SELECT segments.id FROM segments JOIN max_seq_id ON max_seq_id.segment_id = segments.id"
            " WHERE segments.scope = 'VECTOR' AND max_seq_id.seq_id > 0"
        ).fetchall()
    return frozenset(id for (id,) in rows)


def writes(path: str) -> Writes:
    """The writes to the store at `path` so far.

    Every transaction of any program increases SQLite's change counter by one. Opening the store in Chroma is one
    transaction, which adds one row to `acquire_write`. So the difference is the number of all other transactions.
    """
    if _header(path)[_WRITE_VERSION : _WRITE_VERSION + 1] != _ROLLBACK_JOURNAL:  # checked before SQLite creates files
        raise sqlite3.NotSupportedError(f"{path}: with a write-ahead log, not every transaction is counted")
    with _reading(path) as (db, header):
        changes = int.from_bytes(header[_CHANGES], "big")
        [openings] = db.execute("SELECT coalesce(max(id), 0) FROM acquire_write").fetchone()
        identity = repr([changes - openings, *(db.execute(query).fetchall() for query in _IDENTITY)])
    return Writes(changes, xxhash.xxh3_128_hexdigest(identity.encode(errors="surrogateescape")))


def change_counter(path: str) -> bytes:
    """SQLite's count of transactions. The caller ensures that there are none in the meantime."""
    return _header(path)[_CHANGES]


def _header(path: str) -> bytes:
    with _one_reader, open(os.path.join(path, DATABASE), "rb") as file:
        return file.read(_HEADER_SIZE)


_one_reader = threading.Lock()


@contextmanager
def _reading(path: str) -> Iterator[tuple[sqlite3.Connection, bytes]]:
    """A read transaction, and the header as it is during that transaction. Writes nothing: a journal that a crash has
    left behind is an error."""
    database = os.path.join(path, DATABASE)
    with (
        _one_reader,
        open(database, "rb") as file,  # closed last, because that releases the lock of the transaction
        closing(
            sqlite3.connect(f"file:{quote(database)}?mode=ro", uri=True, isolation_level=None, timeout=_BUSY_S)
        ) as db,
    ):
        db.execute("BEGIN")
        db.execute("SELECT count(*) FROM sqlite_master").fetchone()  # from now on, nobody writes to the file
        header = os.pread(file.fileno(), _HEADER_SIZE, 0)
        yield db, header
