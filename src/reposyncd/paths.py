"""Paths as text. No I/O.

Unless stated otherwise, a path is relative to the root of a repository, with `/` between its names, and "" is the root.
"""

from __future__ import annotations

import os
from collections.abc import Container, Iterator


def parent(path: str) -> str:
    """The directory that contains the path."""
    return path.rpartition("/")[0]


def join(directory: str, name: str) -> str:
    """The path of an entry of a directory."""
    return f"{directory}/{name}" if directory else name


def with_ancestors(path: str) -> Iterator[str]:
    """The path itself, then each directory that contains it, up to the root."""
    while path:
        yield path
        path = path.rpartition("/")[0]
    yield ""


def is_within(path: str, tops: Container[str]) -> bool:
    """Whether the path is one of `tops`, or is below one of them."""
    for each in with_ancestors(path):  # noqa: SIM110 - faster than `any`, and called for every watched directory
        if each in tops:
            return True
    return False


def contains(top: str, path: str) -> bool:
    """Whether `path` is `top`, or is below it. Both are absolute and normalised."""
    return path == top or path.startswith(os.path.join(top, ""))
