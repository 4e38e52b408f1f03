"""Opens directories and files without following symbolic links in any component of a path."""

from __future__ import annotations

import os
import stat

OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""Does not wait for the other end of a FIFO. The caller checks with `fstat` whether it is a regular file."""

_PIECE_BYTES = 1 << 20


def open_below(top: int, path: str) -> int:
    """Opens the directory at `path`, relative to the directory that `top` is open on ("" for that directory itself).

    Returns a new descriptor. Raises OSError: ENOTDIR if a component is a link or not a directory, and ENOENT if the
    path leads upwards.
    """
    fd = os.open(".", OPEN_DIRECTORY, dir_fd=top)
    for name in path.split("/") if path else ():
        outer = fd
        try:
            fd = os.open("" if name == ".." else name, OPEN_DIRECTORY, dir_fd=outer)
        finally:
            os.close(outer)
    return fd


def read_regular(fd: int, limit: int) -> bytes | None:
    """The content of an open file; None if it is not a regular file. Raises OSError; EFBIG if it exceeds `limit`
    bytes."""
    import errno

    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        return None
    parts: list[bytes] = []
    left = limit + 1
    while left > 0 and (part := os.read(fd, min(left, _PIECE_BYTES))):
        parts.append(part)
        left -= len(part)
    if left <= 0:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    return b"".join(parts)
