"""What every embedder promises."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reposyncd.embedding import create, identity_of
from reposyncd.embedding.base import Embedder
from reposyncd.errors import UsageError

NAMES = ["static", "hashing"]


@pytest.fixture(scope="module", params=NAMES)
def embedder(request: pytest.FixtureRequest) -> Embedder:
    return create(request.param)


def test_the_identity_is_told_without_loading(embedder: Embedder) -> None:
    assert embedder.identity in [identity_of(name) for name in NAMES]


def test_identities_differ() -> None:
    assert len({identity_of(name) for name in NAMES}) == len(NAMES)


def test_telling_the_identity_imports_no_numpy() -> None:
    script = (
        "import sys; from reposyncd.embedding import identity_of; identity_of('static');"
        "assert not {'numpy', 'wordllama', 'tokenizers', 'importlib.metadata'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_no_text_gives_no_vector(embedder: Embedder) -> None:
    assert embedder.embed([]).shape == (0, embedder.dimension)


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(st.text(max_size=200), min_size=1, max_size=5))
def test_every_text_gets_a_vector_of_unit_length(embedder: Embedder, texts: list[str]) -> None:
    vectors = embedder.embed(texts)
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(texts), embedder.dimension)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)


def test_a_vector_does_not_depend_on_the_other_texts_of_the_call(embedder: Embedder) -> None:
    texts = ["def open_door(self): ...", "", "class HTTPServer:\n    port = 80\n", "§§§", "word " * 5000]
    together = embedder.embed(texts)
    for text, vector in zip(texts, together, strict=True):
        np.testing.assert_allclose(embedder.embed([text])[0], vector, atol=1e-6)


def test_a_second_instance_gives_the_same_vectors(embedder: Embedder) -> None:
    [name] = [name for name in NAMES if identity_of(name) == embedder.identity]
    texts = ["parse the configuration", "def load_config(path): ..."]
    np.testing.assert_allclose(create(name).embed(texts), embedder.embed(texts), atol=1e-6)


def test_words_written_together_are_near_words_written_apart(embedder: Embedder) -> None:
    apart, snake, camel, other = embedder.embed(
        ["parse http response", "parse_http_response", "parseHTTPResponse", "garden furniture sale"]
    )
    assert apart @ snake > 0.99
    assert apart @ camel > 0.99
    assert apart @ other < 0.7


def test_a_megabyte_on_one_line_is_embedded(embedder: Embedder) -> None:
    assert np.isfinite(embedder.embed(["x" * 1_000_000, "ab12" * 250_000])).all()


def test_an_unknown_embedder_is_refused_with_what_there_is() -> None:
    with pytest.raises(UsageError, match='no embedder "glove"; there is: static, hashing'):
        create("glove")
