"""Turns texts into vectors. Importing this package loads neither a model nor numpy."""

from __future__ import annotations

from reposyncd.embedding.registry import create, identity_of, spec_with
from reposyncd.embedding.spec import EmbedderSpec, spec_of

__all__ = ["EmbedderSpec", "create", "identity_of", "spec_of", "spec_with"]
