"""Which embedder made a vector, told without loading it."""

from __future__ import annotations

from reposyncd.versions import installed_versions

STATIC_DIMENSION = 256
HASHING_DIMENSION = 256

_POOLING = 1
"""Raise it with every change of the embedders that may change a vector."""


def static_identity() -> str:
    """Of `static.StaticEmbedder`."""
    from reposyncd.embedding.words import VERSION

    version = installed_versions(["wordllama"])["wordllama"]
    return f"wordllama={version} dim={STATIC_DIMENSION} words={VERSION} pooling={_POOLING}"


def hashing_identity() -> str:
    """Of `hashing.HashingEmbedder`."""
    from reposyncd.embedding.words import VERSION

    return f"hashing dim={HASHING_DIMENSION} words={VERSION} pooling={_POOLING}"
