"""The identity of the chunker: everything that chunks depend on, besides the text and its path."""

from __future__ import annotations

from reposyncd.chunking.grammars import GRAMMARS
from reposyncd.versions import installed_versions

CHUNKER_VERSION = 1
"""Raise it with every change of this package that can change the chunks of any text."""


def fingerprint() -> str:
    """The identity as text: with equal fingerprints, chunks are equal. It contains the version of each grammar."""
    versions = installed_versions(["tree_sitter", *sorted({grammar.module for grammar in GRAMMARS.values()})])
    return " ".join([f"chunker={CHUNKER_VERSION}", *(f"{name}={version}" for name, version in versions.items())])
