"""The version of what the bundled embedders do to a text. It is part of their identities."""

from __future__ import annotations

_WORDS = 2
"""Raise it with every change of `words` that may change the words of any text."""

_POOLING = 2
"""Raise it with every change that may change a vector, of `pooling` or of an embedder with `TEXT_TO_VECTOR` in its
identity."""

TEXT_TO_VECTOR = f"words={_WORDS} pooling={_POOLING}"
