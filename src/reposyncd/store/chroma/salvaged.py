"""The vectors that were saved from a damaged store, for use in the index process."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from reposyncd.store.chroma.salvage import connect, text_digest

if TYPE_CHECKING:
    from reposyncd.ports import Vectors

_SAMPLE = 3
"""How many vectors of each source are compared with the embedder's before any other vector is used."""

_AGREE = 0.999
"""The smallest cosine between a saved vector and the one that the embedder computes now."""


class SalvagedVectors:
    """The vectors that `salvaging` has written to `path`, if any. Thread-safe."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None
        self._trusted: dict[str, bool] = {}
        """by source"""

    def vectors(
        self, texts: Sequence[str], embed: Callable[[list[str]], Vectors]
    ) -> tuple[dict[str, Any], tuple[str, ...]]:
        """The vectors (dimension,) of those texts that have one, by text. Also returns the texts that were embedded to
        check that the saved vectors are what the embedder would compute."""
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
            self._db = connect(self._path, "ro", check_same_thread=False)
        for text in texts:
            row = self._db.execute(
                "SELECT source, vector FROM vector WHERE digest = ?", (text_digest(text),)
            ).fetchone()
            if row:
                yield text, *row


def _agree(vector: Any, fresh: Any) -> bool:
    return bool(vector.shape == fresh.shape and float(vector @ fresh) > _AGREE)
