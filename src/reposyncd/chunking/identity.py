"""What the chunks of a text depend on besides the text and its path."""

from __future__ import annotations

from reposyncd.chunking.grammars import GRAMMARS
from reposyncd.versions import installed_versions

CHUNKER_VERSION = 1
"""Raise it with every change of this package that may change a chunk of any text."""


def fingerprint() -> str:
    """Identity of the chunker: equal fingerprints give equal chunks. It names the version of every grammar."""
    versions = installed_versions(["tree_sitter", *sorted({grammar.module for grammar in GRAMMARS.values()})])
    return " ".join([f"chunker={CHUNKER_VERSION}", *(f"{name}={version}" for name, version in versions.items())])
