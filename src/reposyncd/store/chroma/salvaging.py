"""The child process that reads the sound vectors from a damaged store; see `salvage`.

A vector is saved only if the manifest knows its record; if the text stored with it has the digest in the manifest (or,
if no text can be read, if the index files are what the last checkpoint wrote); and if it is finite and of unit length.
Each slice is one commit, so that the vectors found so far remain if the child dies.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from urllib.parse import quote

import xxhash

from reposyncd.store.chroma.damaged import DamagedStore, FoundVector
from reposyncd.store.chroma.locks import DATABASE
from reposyncd.store.chroma.salvage import SalvageCount, connect, text_digest

_SLICE = 500
"""How many vectors are examined together."""

_MEMORY_BYTES = 4 << 30
"""Address space of the child, so that a garbled file cannot make it use all memory."""

_UNIT = 1e-3
"""How much the length of a vector may differ from 1. Rounding errors are a thousandth of that; garbled bytes cause far
larger ones."""


def main(store: str, manifest: str, fingerprint: str, target: str) -> None:
    """Saves the sound vectors, and prints how many there are."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    sys.stdout.write(json.dumps(take_out(store, manifest, fingerprint, target)))


def take_out(store: str, manifest: str, fingerprint: str, target: str) -> SalvageCount:
    """Writes the sound vectors to `target`, in addition to those with the same fingerprint that are there already."""
    with closing(_open_target(target, manifest, fingerprint)) as db:
        saved = _Saved(db)
        with closing(connect(os.path.join(store, DATABASE), "ro")) as chroma:
            source = DamagedStore(store, chroma, _collections(db, chroma))
            for found in (source.from_log(), source.from_segments()):
                for part in _slices(found):
                    saved.put(part)
        return saved.count()


def _open_target(target: str, manifest: str, fingerprint: str) -> sqlite3.Connection:
    db = connect(target, "rwc")
    made_by = xxhash.xxh32_intdigest(fingerprint.encode()) >> 1
    try:
        [before] = db.execute("PRAGMA user_version").fetchone()
        if (
            before != made_by
        ):  # made by another embedder: only samples of a source are compared, so sources must not be mixed
            db.execute("DROP TABLE IF EXISTS vector")
        db.execute(
            "CREATE TABLE IF NOT EXISTS vector (digest BLOB PRIMARY KEY, vector BLOB, source TEXT) WITHOUT ROWID"
        )
    except sqlite3.DatabaseError:  # a leftover of an earlier salvage, which is damaged itself
        db.close()
        os.unlink(target)
        db = connect(target, "rwc")
        db.execute("CREATE TABLE vector (digest BLOB PRIMARY KEY, vector BLOB, source TEXT) WITHOUT ROWID")
    db.execute(f"PRAGMA user_version = {made_by}")
    db.execute("ATTACH ? AS manifest", (f"file:{quote(manifest)}?mode=ro",))
    db.execute("CREATE TEMP TABLE wanted (id BLOB PRIMARY KEY, digest BLOB) WITHOUT ROWID")
    db.execute(
        "INSERT OR IGNORE INTO wanted SELECT chunk.id, chunk.digest FROM manifest.generation AS generation"
        " JOIN manifest.directory AS directory ON directory.generation = generation.id"
        " JOIN manifest.file AS file ON file.directory = directory.id"
        " JOIN manifest.chunk AS chunk ON chunk.file = file.id WHERE fingerprint = ?",
        (fingerprint,),
    )
    db.execute(
        "CREATE TEMP TABLE collection AS SELECT collection AS name FROM generation WHERE fingerprint = ?",
        (fingerprint,),
    )
    return db


def _collections(db: sqlite3.Connection, chroma: sqlite3.Connection) -> set[str] | None:
    """Chroma's ids of the collections to read; None if they cannot be read."""
    names = {name for (name,) in db.execute("SELECT name FROM temp.collection")}
    try:
        return {id for id, name in chroma.execute("SELECT id, name FROM collections") if name in names}
    except sqlite3.DatabaseError:
        return None


def _slices(found: Iterator[FoundVector]) -> Iterator[list[FoundVector]]:
    part: list[FoundVector] = []
    for each in found:
        part.append(each)
        if len(part) == _SLICE:
            yield part
            part = []
    yield part


@dataclass(frozen=True, slots=True)
class _Saved:
    """The saved vectors."""

    db: sqlite3.Connection

    def put(self, part: Sequence[FoundVector]) -> None:
        """Saves the sound vectors among these, in one commit."""
        self.db.execute("BEGIN")
        for found in part:
            digest = self._digest(found)
            if digest is not None and _is_unit(found.vector):
                self.db.execute("INSERT OR IGNORE INTO vector VALUES (?, ?, ?)", (digest, found.vector, found.source))
        self.db.execute("COMMIT")

    def count(self) -> SalvageCount:
        """How many were saved so far."""
        [wanted] = self.db.execute("SELECT count(DISTINCT digest) FROM wanted").fetchone()
        [saved] = self.db.execute("SELECT count(*) FROM vector WHERE digest IN (SELECT digest FROM wanted)").fetchone()
        return SalvageCount(saved, wanted)

    def _digest(self, found: FoundVector) -> bytes | None:
        """The digest of the text, if the manifest knows the record and the text is the one on record."""
        try:
            row = self.db.execute("SELECT digest FROM wanted WHERE id = ?", (bytes.fromhex(found.id),)).fetchone()
        except ValueError:
            return None
        if row is None or (found.text is not None and text_digest(found.text) != row[0]):
            return None
        return bytes(row[0])


def _is_unit(vector: bytes) -> bool:
    import numpy as np

    if not vector or len(vector) % 4:
        return False
    values = np.frombuffer(vector, np.float32)
    return bool(np.isfinite(values).all()) and abs(float(np.linalg.norm(values)) - 1) < _UNIT
