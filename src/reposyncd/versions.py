"""Finds the versions of installed packages without importing them."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable

ABSENT = "absent"
UNKNOWN = "unknown"
"""The package is installed without a version: from a source tree or a zip file."""


def installed_versions(packages: Iterable[str]) -> dict[str, str]:
    """The version of each package (by its import name), or ABSENT, or UNKNOWN.

    Reads the names of the metadata directories beside the packages, `<package>-<version>.dist-info`. Importing
    `importlib.metadata` would take 40 ms, which matters for a sync that has nothing to do.
    """
    listings: dict[str, dict[str, str]] = {}
    versions: dict[str, str] = {}
    for package in packages:
        folder = _folder(package)
        if folder is None:
            versions[package] = ABSENT
            continue
        if folder not in listings:
            listings[folder] = _listing(folder)
        versions[package] = listings[folder].get(_normal(package), UNKNOWN)
    return versions


def _folder(package: str) -> str | None:
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
    if spec is None or not spec.submodule_search_locations:
        return None
    return os.path.dirname(next(iter(spec.submodule_search_locations)))


def _listing(folder: str) -> dict[str, str]:
    try:
        entries = os.listdir(folder)
    except OSError:
        return {}
    found = {}
    for entry in entries:
        stem, _, kind = entry.rpartition(".")
        if kind in ("dist-info", "egg-info"):
            name, _, version = stem.partition("-")
            found[_normal(name)] = version
    return found


def _normal(name: str) -> str:
    return name.replace("-", "_").replace(".", "_").lower()
