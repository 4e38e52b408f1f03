"""Checks for free disk space before it is needed."""

from __future__ import annotations

import os

from reposyncd.errors import NoSpaceError

RESERVE_BYTES = 16 * 2**20
"""How much space must stay free for the manifest and for other programs."""


def require(path: str, needed: int, purpose: str) -> None:
    """Raises NoSpaceError unless `needed` bytes, and the reserve, are free for this user on the disk of `path`."""
    found = os.statvfs(path)
    free = found.f_bavail * found.f_frsize
    if free < needed + RESERVE_BYTES:
        raise NoSpaceError(
            f"the disk of {path} is full: {free / 1e6:,.0f} MB are free, and {purpose} takes up to "
            f"{(needed + RESERVE_BYTES) / 1e6:,.0f} MB. Free some space there; what is stored stays."
        )


def trouble(path: str) -> str:
    """Why nothing can be written to the disk of the path; "" if no reason is known."""
    try:
        found = os.statvfs(path)
    except OSError as error:
        return f"{path}: {error.strerror}"
    if found.f_flag & os.ST_RDONLY:
        return f"the disk of {path} is read-only"
    if found.f_bavail * found.f_frsize < RESERVE_BYTES:
        return f"the disk of {path} is full: {found.f_bavail * found.f_frsize / 1e6:,.0f} MB are free"
    return ""
