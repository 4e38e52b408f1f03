"""Checksums of Chroma's index files, written by a checkpoint. Nobody writes to these files between two checkpoints, and
Chroma does not check them: a truncated or garbled file causes wrong answers, or a crash.

Only persisted segments have checksums: Chroma rewrites the files of all others whenever it opens them.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable

import xxhash

from reposyncd.errors import CorruptStoreError
from reposyncd.store.chroma.database import persisted_segments
from reposyncd.store.chroma.stamp import PERSISTED
from reposyncd.store.files import translated

CHECKSUMS = ".reposyncd.json"
"""A file beside Chroma's files, so that it is copied, moved and swapped with them."""

_BLOCK = 1 << 20
"""How many bytes are read at once."""


def write(path: str, segments: Iterable[str]) -> None:
    """Writes the checksums for those of these segments of the store at `path` that are persisted."""
    persisted = persisted_segments(path).intersection(segments)
    digests = {segment: _digest(os.path.join(path, segment)) for segment in sorted(persisted)}
    with open(os.path.join(path, CHECKSUMS), "w", encoding="ascii") as file:
        json.dump(digests, file)


def check(path: str) -> None:
    """Raises CorruptStoreError if an index file of the store at `path` differs from what the last checkpoint wrote.

    Reads all these files: about a second for each gigabyte. Raises TransientStoreError if they cannot be read.
    """
    try:
        with open(os.path.join(path, CHECKSUMS), encoding="ascii") as file:
            digests = json.load(file)
        items = sorted(digests.items())
    except FileNotFoundError:
        return  # there was no checkpoint yet
    except (ValueError, AttributeError) as error:
        raise CorruptStoreError(f"{path}/{CHECKSUMS} is damaged: {error}") from error
    for segment, expected in items:
        with translated(path):
            found = _digest(os.path.join(path, segment))
        if found != expected and _was_persisted(path, segment):
            raise CorruptStoreError(f"index files in {path}/{segment} differ from what was written there")


def _was_persisted(path: str, segment: str) -> bool:
    """Whether Chroma uses the files of this segment. Early versions recorded checksums of other segments, too."""
    if os.path.exists(os.path.join(path, segment, PERSISTED)):
        return True
    try:
        return segment in persisted_segments(path)
    except (sqlite3.Error, OSError):  # damaged or locked. That says nothing about the index files; the probe reads them
        return False


def _digest(directory: str) -> str:
    """xxh3_128 of the names and contents of the files in a directory; of nothing if the directory is absent."""
    digest = xxhash.xxh3_128()
    names = sorted(os.listdir(directory)) if os.path.isdir(directory) else []
    for name in names:
        with open(os.path.join(directory, name), "rb") as file:
            digest.update(f"{name}\0{os.fstat(file.fileno()).st_size}\0".encode())
            while block := file.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()
