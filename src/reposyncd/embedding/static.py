"""The bundled model: wordllama's static token vectors, pooled word by word.

The weights and the tokenizer are read from the directory of the package. The package itself is never imported: that
takes 0.3 s and 30 MB (it imports an HTTP client and training code), configures logging for the whole process, and may
look for its files on the network. A test compares the vectors with wordllama's own.

Importing this module loads neither the model nor numpy; see `registry.EmbedderModule`.
"""

from __future__ import annotations

import importlib.util
import os
import threading
from collections.abc import Sequence
from itertools import accumulate, chain
from typing import TYPE_CHECKING

from reposyncd.embedding.identity import TEXT_TO_VECTOR
from reposyncd.embedding.words import words_of
from reposyncd.errors import ConfigError
from reposyncd.versions import installed_versions

if TYPE_CHECKING:
    from reposyncd.embedding.base import Vectors
    from reposyncd.embedding.spec import EmbedderSpec

_DIMENSION = 256
"""Length of the model's vectors."""

_WEIGHTS = os.path.join("weights", "l2_supercat_256.safetensors")
_TENSOR = "embedding.weight"
_TOKENIZER = os.path.join("tokenizers", "l2_supercat_tokenizer_config.json")

_WORDS_KEPT = 32_768
"""How many words' vectors are kept, at 1 KB each. The sources of mypy have 7,000 words; 137 MB of Python packages have
70,000, nearly all rare, so clearing the cache when it is full costs little."""

_WORDS_AT_ONCE = 1024
"""How many words of a text are summed at once, in 1 MB. A text of 1000 characters has about 60. At most
`_WORDS_KEPT`."""


def identity(spec: EmbedderSpec) -> str:
    """See `registry.EmbedderModule`."""
    return _identity()


def create(spec: EmbedderSpec) -> StaticEmbedder:
    """See `registry.EmbedderModule`."""
    return StaticEmbedder()


class StaticEmbedder:
    """A text's vector is the sum of its words' vectors, each weighted with the root of the word's count. A word's
    vector is the sum of its tokens' vectors.

    The model knows no context, and no token spans two words. So a word has the same vector everywhere, and is tokenised
    only once, which is a tenth to a twentieth of the work of tokenising every text. Finding a function by its docstring
    (MRR@10) in the sources of mypy, click and hypothesis: 0.38, 0.49, 0.50, compared with 0.33, 0.49, 0.48 with plain
    counts, and 0.26, 0.45, 0.41 for wordllama on the unchanged text.

    Raises ConfigError if the model is not installed.
    """

    def __init__(self) -> None:
        import numpy as np
        from safetensors import safe_open
        from tokenizers import Tokenizer

        folder = _folder_of_wordllama()
        with safe_open(os.path.join(folder, _WEIGHTS), framework="np") as file:
            self._token_vectors = file.get_tensor(_TENSOR)  # float16, 16 MB; only the used rows are widened
        self._tokenizer = Tokenizer.from_file(os.path.join(folder, _TOKENIZER))
        self._lock = threading.Lock()
        self._rows: dict[str, int] = {}
        # Reserved address space: it only uses memory as it is filled.
        self._word_vectors: Vectors = np.empty((_WORDS_KEPT, _DIMENSION), np.float32)

    @property
    def identity(self) -> str:
        """See `Embedder`."""
        return _identity()

    @property
    def dimension(self) -> int:
        """See `Embedder`."""
        return _DIMENSION

    def embed(self, texts: Sequence[str]) -> Vectors:
        """See `Embedder`."""
        import numpy as np

        from reposyncd.embedding.pooling import unit_rows, weights

        result = np.zeros((len(texts), _DIMENSION), np.float32)
        for row, text in zip(result, texts, strict=True):
            counted = words_of(text)
            words, weight = list(counted), weights(counted)
            for start in range(0, len(words), _WORDS_AT_ONCE):
                end = start + _WORDS_AT_ONCE
                row += weight[start:end] @ self._vectors(words[start:end])
        return unit_rows(result)

    def _vectors(self, words: list[str]) -> Vectors:
        """The vectors of at most `_WORDS_AT_ONCE` distinct words."""
        with self._lock:
            new = [word for word in words if word not in self._rows]
            if new:
                if len(self._rows) + len(new) > _WORDS_KEPT:
                    self._rows.clear()
                    new = words
                self._learn(new)
            return self._word_vectors[[self._rows[word] for word in words]]

    def _learn(self, words: list[str]) -> None:
        import numpy as np

        # One by one: for words, encode_batch takes twice the CPU time, and starts threads.
        tokens = [self._tokenizer.encode(word, add_special_tokens=False).ids for word in words]
        starts = [0, *accumulate(map(len, tokens[:-1]))]
        flat = list(chain.from_iterable(tokens))
        first = len(self._rows)
        np.add.reduceat(
            self._token_vectors[flat].astype(np.float32),
            starts,
            out=self._word_vectors[first : first + len(words)],
        )
        self._rows.update(zip(words, range(first, first + len(words)), strict=True))


def _identity() -> str:
    version = installed_versions(["wordllama"])["wordllama"]
    return f"wordllama={version} dim={_DIMENSION} {TEXT_TO_VECTOR}"


def _folder_of_wordllama() -> str:
    """The directory of the installed package, found without importing it."""
    spec = importlib.util.find_spec("wordllama")
    if spec is not None and spec.origin is not None:
        folder = os.path.dirname(spec.origin)
        if all(os.path.exists(os.path.join(folder, name)) for name in (_WEIGHTS, _TOKENIZER)):
            return folder
    raise ConfigError(
        'embedding.model is "static", whose model is not installed: reinstall it with '
        "`pip install --force-reinstall 'wordllama>=0.4,<0.5'`, or set embedding.model to \"hashing\""
    )
