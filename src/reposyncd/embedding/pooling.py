"""Turns counted words into a vector of unit length. All bundled embedders use this."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from reposyncd.embedding.base import Vectors


def weights(words: Counter[str]) -> Vectors:
    """The weight of each word, float32 (n,), in the order of the words: the root of its count.

    With the root, a name that occurs everywhere in a chunk does not hide the rest.
    """
    return np.sqrt(np.fromiter(words.values(), np.float32, len(words)))


def unit_rows(vectors: Vectors) -> Vectors:
    """Scales the rows to unit length, in place. A zero row becomes the first axis, since in Chroma's cosine space no
    direction is near zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[lengths[:, 0] == 0, 0] = 1.0
    lengths[lengths == 0] = 1.0
    vectors /= lengths
    return vectors
