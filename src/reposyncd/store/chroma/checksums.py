"""The checksums of Chroma's index files, as a checkpoint wrote them. Nobody writes to these files between two
checkpoints, and Chroma does not check them: a file that is truncated or garbled causes wrong answers, or a crash.

Only persisted segments have checksums: the files of the others are written anew whenever they are opened.
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
"""Beside Chroma's files, so that it is copied, moved and swapped with them."""

_BLOCK = 1 << 20
"""Bytes that are read at once."""


def write(path: str, segments: Iterable[str]) -> None:
    """Writes the checksums of those of these segments of the store at `path` that are persisted."""
    persisted = persisted_segments(path).intersection(segments)
    digests = {segment: _digest(os.path.join(path, segment)) for segment in sorted(persisted)}
    with open(os.path.join(path, CHECKSUMS), "w", encoding="ascii") as file:
        json.dump(digests, file)


def check(path: str) -> None:
    """Raises CorruptStoreError if an index file of the store at `path` is not what the last checkpoint wrote.

    Reads them all: about a second for each gigabyte. TransientStoreError if they cannot be read.
    """
    try:
        with open(os.path.join(path, CHECKSUMS), encoding="ascii") as file:
            digests = json.load(file)
        items = sorted(digests.items())
    except FileNotFoundError:
        return  # there has been no checkpoint
    except (ValueError, AttributeError) as error:
        raise CorruptStoreError(f"{path}/{CHECKSUMS} is damaged: {error}") from error
    for segment, expected in items:
        with translated(path):
            found = _digest(os.path.join(path, segment))
        if found != expected and _was_persisted(path, segment):
            raise CorruptStoreError(f"index files in {path}/{segment} are not what was written there")


def _was_persisted(path: str, segment: str) -> bool:
    """Whether Chroma uses the files. Early versions recorded checksums of others, too."""
    if os.path.exists(os.path.join(path, segment, PERSISTED)):
        return True
    try:
        return segment in persisted_segments(path)
    except (sqlite3.Error, OSError):  # damaged or locked: no evidence against the index files, which the probe reads
        return False


def _digest(directory: str) -> str:
    """xxh3_128 of the names and contents of the files in a directory; of nothing if it is absent."""
    digest = xxhash.xxh3_128()
    names = sorted(os.listdir(directory)) if os.path.isdir(directory) else []
    for name in names:
        with open(os.path.join(directory, name), "rb") as file:
            digest.update(f"{name}\0{os.fstat(file.fileno()).st_size}\0".encode())
            while block := file.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()
