from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from reposyncd.embedding.hashing import HashingEmbedder


def test_vectors_are_the_same_on_every_machine() -> None:
    """Stored vectors outlive the program: with another result here, `identity` must be another too."""
    embedder = HashingEmbedder()
    [vector] = embedder.embed(["open the door, openDoor"])
    found = {int(axis): round(float(vector[axis]), 4) for axis in np.flatnonzero(vector)}
    assert embedder.identity == "hashing dim=256 words=2 pooling=2"
    assert found == {6: 0.6325, 168: 0.6325, 190: 0.4472}


def test_vectors_do_not_depend_on_the_hash_seed() -> None:
    script = (
        "from reposyncd.embedding.hashing import HashingEmbedder;"
        "print(HashingEmbedder().embed(['parse the file']).tobytes().hex())"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


@pytest.mark.parametrize("dimension", [1, 7, 1024])
def test_the_dimension_can_be_chosen_and_is_part_of_the_identity(dimension: int) -> None:
    embedder = HashingEmbedder(dimension)
    vectors = embedder.embed(["some text", "", "some other text"])
    assert vectors.shape == (3, dimension)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)
    assert embedder.identity != HashingEmbedder().identity
