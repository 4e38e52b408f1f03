"""What a store that is given up gives back: vectors that are sound, by the digest of their text.

A child process reads the quarantined copy, without Chroma, which dies of what is damaged: vectors stand in the rows of
Chroma's log, and in the index files of its segments. Each is kept only if the manifest knows its record, if the text
that is stored with it is the one whose digest the manifest has (where no text can be read, if the index files are those
that the last checkpoint wrote), and if it is a vector: finite, and of unit length. They go into `<state>/salvage.db`, a
commit for each slice, so that a child that dies keeps what it had found. The index process takes them from there
instead of having the texts embedded, once some of each source have been compared with what the embedder says.

Everything here is private to Chroma 1.5 (and hnswlib); what is of another form is not found, and embedded.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import sqlite3
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

import xxhash

from reposyncd.child_process import inherited
from reposyncd.errors import StoreError
from reposyncd.store.chroma import checksums
from reposyncd.store.chroma.database import DELETE
from reposyncd.store.chroma.inspection import READ_S_PER_BYTE, size
from reposyncd.store.locks import DATABASE

if TYPE_CHECKING:
    import numpy as np

    Vectors = np.ndarray[Any, np.dtype[np.float32]]

SALVAGE = "salvage.db"
"""In the state directory, until every repo is stored again."""

_ENTRY = "reposyncd.app.child"
"""Named, not imported: it joins this room with another."""

_STARTS_S = 60.0
"""How long the child may take beside reading."""

_TELL_S = 0.5
"""Between two calls of `on_wait`."""

_SLICE = 500
"""Records that are looked at together."""

_LEAST_ROW_BYTES = 100
"""Of a row of Chroma's log: less than its vector takes. The log has no gaps but for a few numbers."""

_MEMORY_BYTES = 4 << 30
"""Address space of the child: a garbled file must not make it take all there is."""

_UNIT = 1e-3
"""By how much the length of a vector may differ from 1: rounding is a thousandth of that, garbled bytes far more."""

_SAMPLE = 3
"""Vectors of each source that are compared with the embedder's before any other is taken."""

_AGREE = 0.999
"""The least cosine of a vector with the one that the embedder gives now."""

_LOG = "log"


class Salvaged(NamedTuple):
    """What came of it."""

    kept: int
    """texts whose vectors could be kept"""
    wanted: int
    """texts on record"""


# In the caller ------------------------------------------------------------------------------------------


def salvage(state_dir: str, store: str, manifest: str, fingerprint: str, on_wait: Callable[[], None]) -> str:
    """Has a child take out what is sound of the store at `store`, which nobody writes to, and says how much that was.
    Only of generations of this fingerprint. `on_wait` is called now and then."""
    deadline = time.monotonic() + _STARTS_S + size(store) * READ_S_PER_BYTE
    arguments = [store, manifest, fingerprint, os.path.join(state_dir, SALVAGE)]
    try:
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", _ENTRY, "salvage", *arguments],
            cwd=state_dir,
            env=inherited(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        return f"its vectors could not be salvaged ({error.strerror}), and all texts are embedded again"
    with child:
        try:
            while time.monotonic() < deadline:
                try:
                    out, _ = child.communicate(timeout=_TELL_S)
                    found = Salvaged(*json.loads(out))
                except subprocess.TimeoutExpired:
                    on_wait()
                except (ValueError, TypeError):
                    break
                else:
                    return f"{found.kept:,} of its {found.wanted:,} vectors could be kept"
        finally:
            child.kill()
    return "reading its vectors failed on the way; what was not kept is embedded again"


def discard(state_dir: str) -> None:
    """Nothing of it is wanted any more."""
    for suffix in ("", "-journal"):
        with suppress(OSError):
            os.unlink(os.path.join(state_dir, SALVAGE + suffix))


# In the child -------------------------------------------------------------------------------------------


def main(store: str, manifest: str, fingerprint: str, target: str) -> None:
    """Takes out, and prints what came of it."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    sys.stdout.write(json.dumps(take_out(store, manifest, fingerprint, target)))


def take_out(store: str, manifest: str, fingerprint: str, target: str) -> Salvaged:
    """Writes what is sound into `target`, beside what is there already of the same fingerprint."""
    with closing(_open_target(target, manifest, fingerprint)) as db:
        shelf = _Shelf(db)
        with closing(_connect(os.path.join(store, DATABASE), "ro")) as chroma:
            source = _Source(store, chroma, _collections(db, chroma))
            for found in (source.from_log(), source.from_segments()):
                for part in _parts(found):
                    shelf.put(part)
        return shelf.salvaged()


def _open_target(target: str, manifest: str, fingerprint: str) -> sqlite3.Connection:
    db = _connect(target, "rwc")
    made_by = xxhash.xxh32_intdigest(fingerprint.encode()) >> 1
    try:
        [before] = db.execute("PRAGMA user_version").fetchone()
        if before != made_by:  # another embedder's vectors: a few of a source are compared, and must speak for all
            db.execute("DROP TABLE IF EXISTS vector")
        db.execute(
            "CREATE TABLE IF NOT EXISTS vector (digest BLOB PRIMARY KEY, vector BLOB, source TEXT) WITHOUT ROWID"
        )
    except sqlite3.DatabaseError:  # what is left of an earlier one is damaged itself
        db.close()
        os.unlink(target)
        db = _connect(target, "rwc")
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
    """Chroma's ids of the collections in question; None if that cannot be read."""
    names = {name for (name,) in db.execute("SELECT name FROM temp.collection")}
    try:
        return {id for id, name in chroma.execute("SELECT id, name FROM collections") if name in names}
    except sqlite3.DatabaseError:
        return None


def _connect(path: str, mode: str, *, check_same_thread: bool = True) -> sqlite3.Connection:
    return sqlite3.connect(
        f"file:{quote(path)}?mode={mode}", uri=True, isolation_level=None, check_same_thread=check_same_thread
    )


class _Found(NamedTuple):
    """A vector of the store."""

    id: str
    text: str | None
    """None: it cannot be read, and the vector is known to be what was written"""
    vector: bytes
    """float32"""
    source: str


def _parts(found: Iterator[_Found]) -> Iterator[list[_Found]]:
    part: list[_Found] = []
    for each in found:
        part.append(each)
        if len(part) == _SLICE:
            yield part
            part = []
    yield part


@dataclass(frozen=True, slots=True)
class _Shelf:
    """What is kept."""

    db: sqlite3.Connection

    def put(self, part: Sequence[_Found]) -> None:
        """Keeps those that are sound."""
        self.db.execute("BEGIN")
        for found in part:
            digest = self._digest(found)
            if digest is not None and _is_unit(found.vector):
                self.db.execute("INSERT OR IGNORE INTO vector VALUES (?, ?, ?)", (digest, found.vector, found.source))
        self.db.execute("COMMIT")

    def salvaged(self) -> Salvaged:
        [wanted] = self.db.execute("SELECT count(DISTINCT digest) FROM wanted").fetchone()
        [kept] = self.db.execute("SELECT count(*) FROM vector WHERE digest IN (SELECT digest FROM wanted)").fetchone()
        return Salvaged(kept, wanted)

    def _digest(self, found: _Found) -> bytes | None:
        """The digest of its text, if the manifest knows the record, and the text is what it says."""
        try:
            row = self.db.execute("SELECT digest FROM wanted WHERE id = ?", (bytes.fromhex(found.id),)).fetchone()
        except ValueError:
            return None
        if row is None or (found.text is not None and text_digest(found.text) != row[0]):
            return None
        return bytes(row[0])


def text_digest(text: str) -> bytes:
    """xxh3_128 of the text, as the manifest has it."""
    return xxhash.xxh3_128_digest(text.encode(errors="surrogatepass"))


def _is_unit(vector: bytes) -> bool:
    import numpy as np

    if not vector or len(vector) % 4:
        return False
    values = np.frombuffer(vector, np.float32)
    return bool(np.isfinite(values).all()) and abs(float(np.linalg.norm(values)) - 1) < _UNIT


@dataclass(frozen=True, slots=True)
class _Source:
    """A store that is damaged somewhere. Whatever cannot be read is left out."""

    path: str
    db: sqlite3.Connection
    collections: set[str] | None
    """Chroma's ids of those in question; None: all"""

    def from_log(self) -> Iterator[_Found]:
        """Rows that are not in the index files yet; they have their texts with them."""
        try:
            [first, last] = self.db.execute("SELECT min(seq_id), max(seq_id) FROM embeddings_queue").fetchone()
        except sqlite3.DatabaseError:
            return
        most = os.path.getsize(os.path.join(self.path, DATABASE)) // _LEAST_ROW_BYTES  # for a number may be garbled
        for start in range(first or 0, min(last or -1, (first or 0) + most) + 1, _SLICE):
            with suppress(sqlite3.DatabaseError):
                rows = self.db.execute(
                    "SELECT id, vector, metadata, topic FROM embeddings_queue WHERE seq_id >= ? AND seq_id < ?"
                    " AND vector IS NOT NULL AND encoding = 'FLOAT32' AND operation <> ?",
                    (start, start + _SLICE, DELETE),
                ).fetchall()
                for id, vector, metadata, topic in rows:
                    text = _document(metadata)
                    if text is not None and self._is_ours(str(topic).rpartition("/")[2]):
                        yield _Found(str(id), text, bytes(vector), _LOG)

    def from_segments(self) -> Iterator[_Found]:
        """What the index files hold."""
        is_as_written = self._is_as_written()
        for segment, texts in self._segments().items():
            with suppress(OSError, ValueError, MemoryError, struct.error, pickle.UnpicklingError):
                yield from self._from_segment(segment, texts, is_as_written)

    def _from_segment(self, segment: str, texts: str | None, is_as_written: bool) -> Iterator[_Found]:
        directory = os.path.join(self.path, segment)
        form = _Form.read(os.path.join(directory, "header.bin"))
        ids = _ids(os.path.join(directory, "index_metadata.pickle"))
        with open(os.path.join(directory, "data_level0.bin"), "rb") as file:
            for _ in range(0, form.elements, _SLICE):
                if not (block := file.read(form.size * _SLICE)):
                    break  # the header says more than there is
                found = {ids[label]: vector for label, vector in form.read_block(block) if label in ids}
                known = self._texts(texts, list(found))
                for id, vector in found.items():
                    if id in known or is_as_written:
                        yield _Found(id, known.get(id), vector, segment)

    def _segments(self) -> dict[str, str | None]:
        """The segments of vectors, each with the one that has its texts, if it is known."""
        directories = [entry.name for entry in os.scandir(self.path) if entry.is_dir(follow_symlinks=False)]
        try:
            rows = self.db.execute("SELECT id, scope, collection FROM segments").fetchall()
        except sqlite3.DatabaseError:
            return dict.fromkeys(directories) if self.collections is None else {}
        texts = {collection: id for id, scope, collection in rows if scope == "METADATA"}
        return {
            id: texts.get(collection)
            for id, scope, collection in rows
            if scope == "VECTOR" and id in directories and self._is_ours(collection)
        }

    def _texts(self, segment: str | None, ids: Sequence[str]) -> dict[str, str]:
        if segment is None:
            return {}
        with suppress(sqlite3.DatabaseError):
            return dict(
                self.db.execute(
                    "SELECT embedding_id, string_value FROM embeddings JOIN embedding_metadata USING (id)"
                    " WHERE key = 'chroma:document' AND string_value IS NOT NULL AND segment_id = ?"
                    f" AND embedding_id IN ({','.join('?' * len(ids))})",
                    (segment, *ids),
                ).fetchall()
            )
        return {}

    def _is_ours(self, collection: str) -> bool:
        return self.collections is None or collection in self.collections

    def _is_as_written(self) -> bool:
        if not os.path.exists(os.path.join(self.path, checksums.CHECKSUMS)):
            return False
        try:
            checksums.check(self.path)
        except StoreError:
            return False
        return True


def _document(metadata: str | None) -> str | None:
    with suppress(ValueError, TypeError, AttributeError):
        text = json.loads(metadata or "").get("chroma:document")
        return text if isinstance(text, str) else None
    return None


class _Form(NamedTuple):
    """Of the elements in `data_level0.bin`: links, vector, label. As hnswlib's saveIndex writes it."""

    elements: int
    size: int
    label: int
    """where in an element the label is: eight bytes"""
    vector: int
    """where the vector is; it reaches to the label"""

    @classmethod
    def read(cls, path: str) -> _Form:
        """From the header. Raises ValueError for what cannot be one."""
        with open(path, "rb") as file:
            version, _, _, count, size, label, vector = struct.unpack("<iQQQQQQ", file.read(52))
        if version != 1 or not 0 < vector < label <= size - 8 <= 1 << 20 or (label - vector) % 4:
            raise ValueError(path)
        return cls(count, size, label, vector)

    def read_block(self, block: bytes) -> Iterator[tuple[int, bytes]]:
        """Label and vector of each whole element."""
        for start in range(0, len(block) - self.size + 1, self.size):
            [label] = struct.unpack_from("<Q", block, start + self.label)
            yield label, block[start + self.vector : start + self.label]


def _ids(path: str) -> dict[int, str]:
    """The ids of the labels."""
    with open(path, "rb") as file:
        read = _Plain(io.BytesIO(file.read())).load()
    if not isinstance(read, Mapping) or not isinstance(read.get("id_to_label"), Mapping):
        raise ValueError(path)
    return {label: id for id, label in read["id_to_label"].items() if isinstance(label, int) and isinstance(id, str)}


class _Plain(pickle.Unpickler):
    """Of a pickle only dicts, strings and numbers: nothing in it is looked up or called."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("persistent id")


# In the index process -----------------------------------------------------------------------------------


class Salvage:
    """Vectors that were taken out of an earlier store, if there is one. For any thread."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None
        self._trusted: dict[str, bool] = {}
        """by source"""

    def vectors(
        self, texts: Sequence[str], embed: Callable[[list[str]], Vectors]
    ) -> tuple[dict[str, Any], tuple[str, ...]]:
        """Those of these texts, (dimension,) each; and the texts that had to be embedded to know that these are what
        the embedder would say."""
        with self._lock:
            return self._vectors(texts, embed)

    def _vectors(
        self, texts: Sequence[str], embed: Callable[[list[str]], Vectors]
    ) -> tuple[dict[str, Any], tuple[str, ...]]:
        import numpy as np

        found: dict[str, dict[str, Any]] = {}
        try:
            for text, source, vector in self._rows(texts):
                found.setdefault(source, {})[text] = np.frombuffer(vector, np.float32)
        except sqlite3.Error:
            return {}, ()
        sampled: dict[str, Any] = {}
        for source, vectors in found.items():
            if source not in self._trusted:
                sample = list(vectors)[:_SAMPLE]
                fresh = dict(zip(sample, embed(sample), strict=True))
                self._trusted[source] = all(_agree(vectors[text], fresh[text]) for text in sample)
                sampled |= fresh
        known = {
            text: vector
            for source, vectors in found.items()
            if self._trusted[source]
            for text, vector in vectors.items()
        }
        return known | sampled, tuple(sampled)

    def _rows(self, texts: Sequence[str]) -> Iterator[tuple[str, str, bytes]]:
        if self._db is None:
            if not os.path.exists(self._path):
                return
            self._db = _connect(self._path, "ro", check_same_thread=False)
        for text in texts:
            row = self._db.execute(
                "SELECT source, vector FROM vector WHERE digest = ?", (text_digest(text),)
            ).fetchone()
            if row:
                yield text, *row


def _agree(vector: Any, fresh: Any) -> bool:
    return bool(vector.shape == fresh.shape and float(vector @ fresh) > _AGREE)
