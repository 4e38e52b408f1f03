"""Texts to vectors. Importing this package loads no model, and not numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reposyncd.embedding.identity import hashing_identity, static_identity
from reposyncd.errors import UsageError

if TYPE_CHECKING:
    from reposyncd.embedding.base import Embedder

__all__ = ["create", "identity_of", "name_of"]

_IDENTITIES = {"static": static_identity, "hashing": hashing_identity}


def identity_of(name: str) -> str:
    """What `create(name).identity` is, told without loading anything. Raises UsageError for an unknown name."""
    if name not in _IDENTITIES:
        raise UsageError(f'there is no embedder "{name}"; there is: {", ".join(_IDENTITIES)}')
    return _IDENTITIES[name]()


def name_of(identity: str) -> str | None:
    """The embedder that has this identity, if it is one of these in these versions. Loads nothing."""
    return next((name for name, identity_of in _IDENTITIES.items() if identity_of() == identity), None)


def create(name: str) -> Embedder:
    """The embedder of that name, loaded. Raises UsageError for an unknown name."""
    identity_of(name)
    if name == "static":
        from reposyncd.embedding.static import StaticEmbedder

        return StaticEmbedder()
    from reposyncd.embedding.hashing import HashingEmbedder

    return HashingEmbedder()
