"""What the embedders that count words promise, besides what every embedder does."""

from __future__ import annotations

import numpy as np
import pytest

from reposyncd.embedding import EmbedderSpec, create
from reposyncd.embedding.base import Embedder


@pytest.fixture(scope="module", params=["static", "hashing"])
def embedder(request: pytest.FixtureRequest) -> Embedder:
    return create(EmbedderSpec(request.param))


def test_texts_without_a_word_share_one_vector(embedder: Embedder) -> None:
    vectors = embedder.embed(["", "   \n", "})];", "§"])
    np.testing.assert_array_equal(vectors, np.broadcast_to(vectors[0], vectors.shape))


def test_words_written_together_are_near_words_written_apart(embedder: Embedder) -> None:
    apart, snake, camel, other = embedder.embed(
        ["parse http response", "parse_http_response", "parseHTTPResponse", "garden furniture sale"]
    )
    assert apart @ snake > 0.99
    assert apart @ camel > 0.99
    assert apart @ other < 0.7
