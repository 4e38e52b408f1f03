from __future__ import annotations

import importlib.util
import logging
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reposyncd.embedding import static
from reposyncd.embedding.static import StaticEmbedder
from reposyncd.embedding.words import words_of
from reposyncd.errors import ConfigError


@pytest.fixture(scope="module")
def embedder() -> StaticEmbedder:
    return StaticEmbedder()


@pytest.fixture(scope="module")
def wordllama_model() -> Any:
    level, handlers = logging.root.level, list(logging.root.handlers)
    from wordllama import WordLlama

    logging.root.setLevel(level)
    logging.root.handlers[:] = handlers  # it sets up logging when it is imported
    spec = importlib.util.find_spec("wordllama")
    assert spec
    assert spec.origin
    return WordLlama.load(cache_dir=os.path.dirname(spec.origin), disable_download=True)


def test_the_vector_is_wordllamas_own_where_no_word_repeats(embedder: StaticEmbedder, wordllama_model: Any) -> None:
    vocabulary = sorted(words_of(Path(static.__file__).read_text()) | words_of("größe xylophonist 漢字 2026 прочитать"))
    shuffled = random.Random(1)
    texts = [" ".join(shuffled.sample(vocabulary, n)) for n in (1, 2, 5, 20, 60, 100) for _ in range(10)]
    np.testing.assert_allclose(embedder.embed(texts), wordllama_model.embed(texts, norm=True), atol=1e-5)


def test_a_word_counts_by_the_root_of_how_often_it_is_there(embedder: StaticEmbedder, wordllama_model: Any) -> None:
    door, window = wordllama_model.embed(["door", "window"])
    expected = 2 * door + window  # the words are one token each, so that means are sums
    np.testing.assert_allclose(
        embedder.embed(["door Door DOOR window door"])[0], expected / np.linalg.norm(expected), atol=1e-5
    )


def test_no_token_spans_two_words(embedder: StaticEmbedder) -> None:
    spanning = [token for token in embedder._tokenizer.get_vocab() if token.strip("▁") and "▁" in token[1:]]
    assert not spanning


def test_vectors_stay_the_same_when_the_words_kept_start_over(
    monkeypatch: pytest.MonkeyPatch, embedder: StaticEmbedder
) -> None:
    texts = [f"alpha beta gamma word{n} number{n * 7}" for n in range(50)] + [" ".join(map(str, range(300)))]
    expected = embedder.embed(texts)
    monkeypatch.setattr(static, "_WORDS_KEPT", 16)
    monkeypatch.setattr(static, "_WORDS_AT_ONCE", 8)
    small = StaticEmbedder()
    np.testing.assert_allclose(small.embed(texts), expected, atol=1e-6)
    assert len(small._rows) <= 16


def test_loading_leaves_logging_alone_and_imports_no_network() -> None:
    script = (
        "import logging, sys; from reposyncd.embedding.static import StaticEmbedder; StaticEmbedder().embed(['text']);"
        "assert not logging.root.handlers and logging.root.level == logging.WARNING;"
        "assert not {'wordllama', 'requests', 'urllib3', 'http.client'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_model_that_is_not_installed_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(static, "_WEIGHTS", "weights/absent.safetensors")
    with pytest.raises(ConfigError, match=r'embedding\.model is "static", .* not installed: .* "hashing"'):
        StaticEmbedder()
