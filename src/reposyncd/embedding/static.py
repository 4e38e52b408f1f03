"""The bundled model: wordllama's static token vectors, pooled word by word. Offline, numpy only, no download."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from reposyncd.embedding.identity import STATIC_DIMENSION, static_identity
from reposyncd.embedding.words import words_of

if TYPE_CHECKING:
    from reposyncd.embedding.base import Vectors

_WORDS_KEPT = 200_000
"""Words whose tokens are remembered, some 30 MB; a very large repository has more, and starts over now and then."""


class StaticEmbedder:
    """A text's vector is the sum of its words' token vectors, each word weighed by the root of its count.

    The model has no context, so a word has the same tokens everywhere and is tokenised once: twenty times faster
    than tokenising the text. The root keeps a name that is everywhere in a chunk from drowning the rest; finding
    a function by its docstring (MRR@10) in the sources of mypy, click and hypothesis: 0.38, 0.49, 0.50, against
    0.33, 0.49, 0.48 with plain counts, and 0.26, 0.45, 0.41 for wordllama on the text as it stands.
    """

    def __init__(self) -> None:
        level, handlers = logging.root.level, list(logging.root.handlers)
        from wordllama import WordLlama

        # wordllama calls logging.basicConfig when it is imported; logging is the program's to set up.
        logging.root.setLevel(level)
        logging.root.handlers[:] = handlers
        spec = importlib.util.find_spec("wordllama")
        assert spec is not None  # noqa: S101 - it has just been imported
        assert spec.origin is not None  # noqa: S101
        # Without cache_dir it looks for its tokenizer where it is not, and goes to the network.
        model = WordLlama.load(cache_dir=os.path.dirname(spec.origin), dim=STATIC_DIMENSION, disable_download=True)
        self._vectors: Vectors = model.embedding
        self._tokenizer = model.tokenizer
        self._tokenizer.no_padding()
        self._tokens: dict[str, list[int]] = {}

    @property
    def identity(self) -> str:
        """See `Embedder`."""
        return static_identity()

    @property
    def dimension(self) -> int:
        """See `Embedder`."""
        return STATIC_DIMENSION

    def embed(self, texts: Sequence[str]) -> Vectors:
        """See `Embedder`."""
        counted = [words_of(text) for text in texts]
        self._learn({word for words in counted for word in words})
        result = np.zeros((len(texts), STATIC_DIMENSION), np.float32)
        for row, words in zip(result, counted, strict=True):
            tokens = [self._tokens[word] for word in words]
            ids = [id for each in tokens for id in each]
            weights = np.sqrt(np.fromiter(words.values(), np.float32, len(words)))
            row[:] = np.repeat(weights, [len(each) for each in tokens]) @ self._vectors[ids]
        return unit_rows(result)

    def _learn(self, words: set[str]) -> None:
        if len(self._tokens) > _WORDS_KEPT:
            self._tokens.clear()
        new = [word for word in words if word not in self._tokens]
        for word, encoding in zip(new, self._tokenizer.encode_batch_fast(new, add_special_tokens=False), strict=True):
            self._tokens[word] = encoding.ids


def unit_rows(vectors: Vectors) -> Vectors:
    """The rows scaled to unit length, in place; a zero row becomes the first axis, since Chroma's cosine space
    has no place for zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[lengths[:, 0] == 0, 0] = 1.0
    lengths[lengths == 0] = 1.0
    vectors /= lengths
    return vectors
