"""The version of how the bundled embedders treat a text. It is part of their identities."""

from __future__ import annotations

_WORDS = 2
"""Raise it with every change of `words` that may change the words of any text."""

_POOLING = 2
"""Raise it with every change of `pooling`, or of an embedder with `TEXT_TO_VECTOR` in its identity, that may change a
vector."""

TEXT_TO_VECTOR = f"words={_WORDS} pooling={_POOLING}"
