"""An embedder that needs no model: words are hashed to axes. For tests, and where there is no room for a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import xxhash

from reposyncd.embedding.identity import HASHING_DIMENSION, hashing_identity
from reposyncd.embedding.pooling import unit_rows, weights
from reposyncd.embedding.words import words_of

if TYPE_CHECKING:
    from reposyncd.embedding.base import Vectors


class HashingEmbedder:
    """Each word adds its weight to one axis, with one sign, both chosen by a hash of the word (xxh3_64 of its UTF-8:
    the same in every process). `dimension` is at least 1."""

    def __init__(self, dimension: int = HASHING_DIMENSION) -> None:
        self._dimension = dimension

    @property
    def identity(self) -> str:
        """See `Embedder`."""
        return hashing_identity(self._dimension)

    @property
    def dimension(self) -> int:
        """See `Embedder`."""
        return self._dimension

    def embed(self, texts: Sequence[str]) -> Vectors:
        """See `Embedder`."""
        result = np.zeros((len(texts), self._dimension), np.float32)
        for row, text in zip(result, texts, strict=True):
            words = words_of(text)
            for word, weight in zip(words, weights(words).tolist(), strict=True):
                hashed = xxhash.xxh3_64_intdigest(word.encode())
                row[(hashed >> 1) % self._dimension] += weight if hashed & 1 else -weight
        return unit_rows(result)
