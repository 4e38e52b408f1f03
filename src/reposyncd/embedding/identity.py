"""Which embedder made a vector, told without loading it."""

from __future__ import annotations

from reposyncd.versions import installed_versions

STATIC_DIMENSION = 256
HASHING_DIMENSION = 256

_WORDS = 2
"""Raise it with every change of `words` that may change the words of any text."""
_POOLING = 2
"""Raise it with every change of the embedders that may change a vector."""


def static_identity() -> str:
    """Of `static.StaticEmbedder`."""
    version = installed_versions(["wordllama"])["wordllama"]
    return f"wordllama={version} dim={STATIC_DIMENSION} words={_WORDS} pooling={_POOLING}"


def hashing_identity(dimension: int = HASHING_DIMENSION) -> str:
    """Of `hashing.HashingEmbedder`."""
    return f"hashing dim={dimension} words={_WORDS} pooling={_POOLING}"
