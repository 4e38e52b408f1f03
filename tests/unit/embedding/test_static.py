from __future__ import annotations

import logging
import os
from importlib.util import find_spec

import numpy as np
import pytest

from reposyncd.embedding.static import StaticEmbedder
from reposyncd.embedding.words import words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("parseHTTPResponse_v2", ["parse", "http", "response", "v", "2"]),
        ("MAX_RETRIES = 10", ["max", "retries", "10"]),
        ("kebab-case, dotted.name", ["kebab", "case", "dotted", "name"]),
        ("XMLHttpRequest", ["xml", "http", "request"]),
        ("größe 漢字", ["größe", "漢字"]),
        ("+-*/", []),
    ],
)
def test_identifiers_fall_apart_into_lower_case_words(text: str, words: list[str]) -> None:
    assert list(words_of(text)) == words


def test_words_are_counted() -> None:
    assert words_of("get_user(user_id)") == {"get": 1, "user": 2, "id": 1}


def test_the_vector_is_wordllamas_own_where_no_word_repeats() -> None:
    from wordllama import WordLlama

    spec = find_spec("wordllama")
    assert spec
    assert spec.origin
    model = WordLlama.load(cache_dir=os.path.dirname(spec.origin), disable_download=True)
    texts = ["read the whole file into memory", "tokenizer merges unusual subwords like xylophonist"]
    np.testing.assert_allclose(StaticEmbedder().embed(texts), model.embed(texts, norm=True), atol=1e-5)


def test_loading_leaves_logging_as_it_was() -> None:
    before = (logging.root.level, list(logging.root.handlers))
    StaticEmbedder()
    assert (logging.root.level, logging.root.handlers) == before
