"""An embedder that needs nothing: words are hashed to axes. For tests, and where there is no room for a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import xxhash

from reposyncd.embedding.identity import HASHING_DIMENSION, hashing_identity
from reposyncd.embedding.static import unit_rows
from reposyncd.embedding.words import words_of

if TYPE_CHECKING:
    from reposyncd.embedding.base import Vectors


class HashingEmbedder:
    """Each word adds the root of its count to one axis, with one sign, both chosen by a hash of the word."""

    @property
    def identity(self) -> str:
        """See `Embedder`."""
        return hashing_identity()

    @property
    def dimension(self) -> int:
        """See `Embedder`."""
        return HASHING_DIMENSION

    def embed(self, texts: Sequence[str]) -> Vectors:
        """See `Embedder`."""
        result = np.zeros((len(texts), HASHING_DIMENSION), np.float32)
        for row, text in zip(result, texts, strict=True):
            for word, count in words_of(text).items():
                hashed = xxhash.xxh3_64_intdigest(word.encode())
                row[(hashed >> 1) % HASHING_DIMENSION] += count**0.5 if hashed & 1 else -(count**0.5)
        return unit_rows(result)
