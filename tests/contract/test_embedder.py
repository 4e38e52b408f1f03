"""What every embedder promises."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reposyncd.config import KEYS
from reposyncd.config.values import EmbeddingConfig
from reposyncd.embedding import EmbedderSpec, create, identity_of, spec_of, spec_with
from reposyncd.embedding.base import Embedder
from reposyncd.embedding.registry import KINDS
from reposyncd.errors import UsageError

SPECS = [EmbedderSpec("static"), EmbedderSpec("hashing"), EmbedderSpec("hashing", dimension=64)]
"""Every kind; one with settings where they make another embedder of it."""

TEXTS = [
    "def open_door(self): ...",
    "",
    "class HTTPServer:\n    port = 80\n",
    "§§§",
    "word " * 5000,
    "größeÄndern 漢字",
    "a lone surrogate \udc80",
]


@pytest.fixture(scope="module", params=SPECS, ids=lambda spec: f"{spec.kind}-{spec.dimension}")
def spec(request: pytest.FixtureRequest) -> EmbedderSpec:
    found: EmbedderSpec = request.param
    return found


@pytest.fixture(scope="module")
def embedder(spec: EmbedderSpec) -> Embedder:
    return create(spec)


def test_every_kind_keeps_this_contract() -> None:
    assert {spec.kind for spec in SPECS} == KINDS.keys()


def test_the_identity_is_told_without_loading(spec: EmbedderSpec, embedder: Embedder) -> None:
    assert embedder.identity == identity_of(spec)


def test_identities_differ() -> None:
    assert len({identity_of(spec) for spec in SPECS}) == len(SPECS)


def test_an_embedder_is_found_by_its_identity(spec: EmbedderSpec) -> None:
    assert spec_with(identity_of(spec), configured=spec) == spec


def test_the_secret_is_no_part_of_the_identity(spec: EmbedderSpec) -> None:
    assert identity_of(replace(spec, secret="hunter2")) == identity_of(spec)


def test_the_identity_can_stand_in_a_fingerprint(spec: EmbedderSpec) -> None:
    """Which is divided at this mark."""
    assert "; " not in identity_of(spec)


def test_telling_the_identity_imports_no_numpy(spec: EmbedderSpec) -> None:
    script = (
        f"import sys; from reposyncd.embedding import EmbedderSpec, identity_of; identity_of({spec!r});"
        "assert not {'numpy', 'wordllama', 'tokenizers', 'xxhash', 'importlib.metadata'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_no_text_gives_no_vector(embedder: Embedder) -> None:
    vectors = embedder.embed([])
    assert vectors.shape == (0, embedder.dimension)
    assert vectors.dtype == np.float32


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(st.text(max_size=200), min_size=1, max_size=5))
def test_every_text_gets_a_vector_of_unit_length(embedder: Embedder, texts: list[str]) -> None:
    vectors = embedder.embed(texts)
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(texts), embedder.dimension)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(texts=st.permutations(TEXTS))
def test_a_vector_does_not_depend_on_the_other_texts_of_the_call(embedder: Embedder, texts: list[str]) -> None:
    for text, vector in zip(texts, embedder.embed(texts), strict=True):
        np.testing.assert_allclose(embedder.embed([text])[0], vector, atol=1e-6)


def test_a_second_instance_that_met_other_texts_before_gives_the_same_vectors(
    spec: EmbedderSpec, embedder: Embedder
) -> None:
    other = create(spec)
    other.embed(["quite something else", "before the door is opened"])
    np.testing.assert_allclose(other.embed(TEXTS), embedder.embed(TEXTS), atol=1e-6)


def test_threads_get_the_vectors_that_one_thread_gets(spec: EmbedderSpec, embedder: Embedder) -> None:
    calls = [
        [f"word{n} call{n} {'abcdefghij'[n % 10]}{n * n}" for n in range(start, start + 40)] for start in range(50)
    ]
    expected = [embedder.embed(texts) for texts in calls]
    fresh = create(spec)
    with ThreadPoolExecutor(8) as pool:
        for vectors, wanted in zip(pool.map(fresh.embed, calls), expected, strict=True):
            np.testing.assert_allclose(vectors, wanted, atol=1e-6)


def test_a_megabyte_on_one_line_is_embedded(embedder: Embedder) -> None:
    texts = ["x" * 1_000_000, "ab12" * 250_000, "éA" * 500_000, "".join(map(str, range(60_000)))]
    vectors = embedder.embed(texts)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)


def test_an_unknown_embedder_is_refused_with_what_there_is() -> None:
    for ask in (create, identity_of):
        with pytest.raises(UsageError, match='no embedder "glove"; known: static, hashing'):
            ask(EmbedderSpec("glove"))


def test_every_embedder_can_be_configured() -> None:
    [key] = [key for key in KEYS if key.path == "embedding.model"]
    assert list(key.choices) == list(KINDS)
    assert [spec_of(EmbeddingConfig(model=kind)).kind for kind in KINDS] == list(KINDS)
