"""Reads a damaged Chroma directory without Chroma: vectors are in the rows of its log and in its index files.

Everything here is private to Chroma 1.5 (and hnswlib). Anything in another form is not found, and is embedded again.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import sqlite3
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from reposyncd.errors import StoreError
from reposyncd.store.chroma import checksums
from reposyncd.store.chroma.database import DELETE
from reposyncd.store.chroma.locks import DATABASE

_SLICE = 500
"""How many records are read together."""

_LEAST_ROW_BYTES = 100
"""The smallest size of a row in Chroma's log: its vector alone takes more. The row numbers have hardly any gaps."""

_LOG = "log"
"""The source of vectors from the log. The source of others is their segment."""


class FoundVector(NamedTuple):
    """A vector in the store."""

    id: str
    text: str | None
    """None: the text cannot be read, but the vector is known to be what was written"""
    vector: bytes
    """float32"""
    source: str
    """where in the store it was found; vectors with the same source are trusted together"""


@dataclass(frozen=True, slots=True)
class DamagedStore:
    """A damaged store. What cannot be read is left out."""

    path: str
    db: sqlite3.Connection
    collections: set[str] | None
    """Chroma's ids of the collections to read; None: all"""

    def from_log(self) -> Iterator[FoundVector]:
        """Vectors from rows that are not in the index files yet. These rows have their texts."""
        try:
            [first, last] = self.db.execute("SELECT min(seq_id), max(seq_id) FROM embeddings_queue").fetchone()
        except sqlite3.DatabaseError:
            return
        most = os.path.getsize(os.path.join(self.path, DATABASE)) // _LEAST_ROW_BYTES  # a row number may be garbled
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
                        yield FoundVector(str(id), text, bytes(vector), _LOG)

    def from_segments(self) -> Iterator[FoundVector]:
        """Vectors from the index files."""
        is_as_written = self._is_as_written()
        for segment, texts in self._segments().items():
            with suppress(OSError, ValueError, MemoryError, struct.error, pickle.UnpicklingError):
                yield from self._from_segment(segment, texts, is_as_written)

    def _from_segment(self, segment: str, texts: str | None, is_as_written: bool) -> Iterator[FoundVector]:
        directory = os.path.join(self.path, segment)
        form = _Form.read(os.path.join(directory, "header.bin"))
        ids = _ids(os.path.join(directory, "index_metadata.pickle"))
        with open(os.path.join(directory, "data_level0.bin"), "rb") as file:
            for _ in range(0, form.elements, _SLICE):
                if not (block := file.read(form.size * _SLICE)):
                    break  # the header promises more than there is
                found = {ids[label]: vector for label, vector in form.read_block(block) if label in ids}
                known = self._texts(texts, list(found))
                for id, vector in found.items():
                    if id in known or is_as_written:
                        yield FoundVector(id, known.get(id), vector, segment)

    def _segments(self) -> dict[str, str | None]:
        """The segments that have vectors, each with the segment that has the texts, if that is known."""
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
    """The layout of the elements in `data_level0.bin`: links, vector, label, as hnswlib's saveIndex writes them."""

    elements: int
    size: int
    label: int
    """offset of the label in an element: eight bytes"""
    vector: int
    """offset of the vector; it ends where the label begins"""

    @classmethod
    def read(cls, path: str) -> _Form:
        """Reads it from the header. Raises ValueError if that is not a valid header."""
        with open(path, "rb") as file:
            version, _, _, count, size, label, vector = struct.unpack("<iQQQQQQ", file.read(52))
        if version != 1 or not 0 < vector < label <= size - 8 <= 1 << 20 or (label - vector) % 4:
            raise ValueError(path)
        return cls(count, size, label, vector)

    def read_block(self, block: bytes) -> Iterator[tuple[int, bytes]]:
        """The label and the vector of each complete element."""
        for start in range(0, len(block) - self.size + 1, self.size):
            [label] = struct.unpack_from("<Q", block, start + self.label)
            yield label, block[start + self.vector : start + self.label]


def _ids(path: str) -> dict[int, str]:
    """The ids, by label."""
    with open(path, "rb") as file:
        read = _Plain(io.BytesIO(file.read())).load()
    if not isinstance(read, Mapping) or not isinstance(read.get("id_to_label"), Mapping):
        raise ValueError(path)
    return {label: id for id, label in read["id_to_label"].items() if isinstance(label, int) and isinstance(id, str)}


class _Plain(pickle.Unpickler):
    """Reads dicts, strings and numbers only: nothing that the pickle names is looked up or called."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("persistent id")
