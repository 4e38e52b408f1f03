"""What the chunks of a text depend on besides the text and its path."""

from __future__ import annotations

import importlib.util
import os

from reposyncd.chunking.grammars import GRAMMARS

CHUNKER_VERSION = 1
"""Raise it with every change of this package that may change a chunk of any text."""


def fingerprint() -> str:
    """Identity of the chunker: equal fingerprints give equal chunks.

    It names the versions of tree-sitter and of every grammar as their metadata directories do, since importing
    the grammars, or `importlib.metadata`, takes tens of milliseconds. A package that is not installed counts as
    "absent", and one without such a directory as "unknown".
    """
    names = ["tree_sitter", *sorted({grammar.module for grammar in GRAMMARS.values()})]
    versions: dict[str, str] = {}
    listed: set[str] = set()
    for name in names:
        if name in versions:
            continue
        folder = _folder(name)
        if folder is None:
            versions[name] = "absent"
            continue
        if folder not in listed:
            listed.add(folder)
            for package, version in _versions(folder).items():
                versions.setdefault(package, version)
        versions.setdefault(name, "unknown")
    return " ".join([f"chunker={CHUNKER_VERSION}", *(f"{name}={versions[name]}" for name in names)])


def _folder(package: str) -> str | None:
    """The directory an installed package stands in, without importing it."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
    if spec is None or not spec.submodule_search_locations:
        return None
    return os.path.dirname(next(iter(spec.submodule_search_locations)))


def _versions(folder: str) -> dict[str, str]:
    """Package -> version, off names such as `tree_sitter_c_sharp-0.23.5.dist-info`."""
    try:
        entries = sorted(os.listdir(folder))
    except OSError:  # a package inside a zip file
        return {}
    versions = {}
    for entry in entries:
        stem, _, kind = entry.rpartition(".")
        if kind in ("dist-info", "egg-info") and entry.startswith(("tree_sitter", "tree-sitter")):
            name, _, version = stem.rpartition("-")
            versions[name.replace("-", "_").replace(".", "_")] = version
    return versions
