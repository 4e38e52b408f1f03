"""An embedder that needs no model: it hashes words to axes. For tests, and for machines with little memory.

Importing this module loads neither numpy nor xxhash; see `registry.EmbedderModule`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from reposyncd.embedding.identity import TEXT_TO_VECTOR
from reposyncd.embedding.words import words_of

if TYPE_CHECKING:
    from reposyncd.embedding.base import Vectors
    from reposyncd.embedding.spec import EmbedderSpec

_DIMENSION = 256
"""Length of a vector, unless the spec sets another."""


def identity(spec: EmbedderSpec) -> str:
    """See `registry.EmbedderModule`."""
    return _identity(spec.dimension or _DIMENSION)


def create(spec: EmbedderSpec) -> HashingEmbedder:
    """See `registry.EmbedderModule`."""
    return HashingEmbedder(spec.dimension or _DIMENSION)


class HashingEmbedder:
    """Each word adds its weight to one axis, with one sign. A hash of the word selects both: xxh3_64 of its UTF-8,
    which is the same in every process. `dimension` is at least 1."""

    def __init__(self, dimension: int = _DIMENSION) -> None:
        self._dimension = dimension

    @property
    def identity(self) -> str:
        """See `Embedder`."""
        return _identity(self._dimension)

    @property
    def dimension(self) -> int:
        """See `Embedder`."""
        return self._dimension

    def embed(self, texts: Sequence[str]) -> Vectors:
        """See `Embedder`."""
        import numpy as np
        import xxhash

        from reposyncd.embedding.pooling import unit_rows, weights

        result = np.zeros((len(texts), self._dimension), np.float32)
        for row, text in zip(result, texts, strict=True):
            words = words_of(text)
            for word, weight in zip(words, weights(words).tolist(), strict=True):
                hashed = xxhash.xxh3_64_intdigest(word.encode())
                row[(hashed >> 1) % self._dimension] += weight if hashed & 1 else -weight
        return unit_rows(result)


def _identity(dimension: int) -> str:
    return f"hashing dim={dimension} {TEXT_TO_VECTOR}"
