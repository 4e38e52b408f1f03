"""Finds git work trees below some directories."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from reposyncd.model import FileError
from reposyncd.paths import join
from reposyncd.tree.gitdir import is_repository
from reposyncd.tree.ignore import IgnoreRules

DIRECTORIES_AT_MOST = 20_000
"""How many directories one search lists. That takes about half a second. If there are more outside of repositories, the
user has probably configured the wrong directory."""


class FoundRepositories(NamedTuple):
    """The result of a search."""

    found: tuple[str, ...]
    """real absolute paths of work trees, sorted"""
    truncated: bool
    """whether a limit was reached, so that there may be more"""
    unreadable: tuple[FileError, ...]
    """directories that do not exist or cannot be listed"""


def discover(roots: Sequence[str], *, depth: int, excludes: Sequence[str], limit: int) -> FoundRepositories:
    """Finds at most `limit` git work trees at or below the roots (absolute paths), at most `depth` levels down.

    The search does not enter repositories, hidden directories, links, other file systems, or anything that matches
    `excludes` (patterns as in .gitignore, relative to the root). It finds the nearest ones first.
    """
    found: set[str] = set()
    unreadable: list[FileError] = []
    left = DIRECTORIES_AT_MOST
    waiting: deque[tuple[str, str, int]] = deque()
    rules: dict[str, tuple[IgnoreRules, int]] = {}
    for given in roots:
        root = os.path.realpath(given)
        try:
            rules[root] = IgnoreRules.for_patterns(excludes), os.stat(root).st_dev
            waiting.append((root, "", 0))
        except OSError as error:
            unreadable.append(FileError(given, error.strerror or str(error)))
    while waiting:
        root, path, level = waiting.popleft()
        place = os.path.join(root, path) if path else root
        try:
            if is_repository(place):
                if place not in found and len(found) == limit:
                    return FoundRepositories(tuple(sorted(found)), True, tuple(unreadable))
                found.add(place)
                continue
            if level == depth:
                continue
            if left == 0:
                return FoundRepositories(tuple(sorted(found)), True, tuple(unreadable))
            left -= 1
            ignore, device = rules[root]
            with os.scandir(place) as entries:
                inner = [
                    entry.name
                    for entry in entries
                    if not entry.name.startswith(".")
                    and entry.is_dir(follow_symlinks=False)
                    and entry.stat(follow_symlinks=False).st_dev == device
                ]
        except OSError as error:
            unreadable.append(FileError(place, error.strerror or str(error)))
            continue
        for name in sorted(inner):
            below = join(path, name)
            if not ignore.ignores(below, True):
                waiting.append((root, below, level + 1))
    return FoundRepositories(tuple(sorted(found)), False, tuple(unreadable))
