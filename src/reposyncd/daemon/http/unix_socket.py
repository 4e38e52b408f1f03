"""The daemon's socket: where it is, and whose."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
from contextlib import suppress
from typing import NamedTuple

from reposyncd.app.client import addressed, running
from reposyncd.errors import BusyError, ReposyncError

_NEW = ".new.sock"
"""A socket that does not listen yet, in the directory of the one that it will be."""

_BACKLOG = 128
"""Connections that the kernel holds until they are accepted, which is at once."""


class Identity(NamedTuple):
    """Of a file, as long as it is there. Inodes are counted anew on each fresh tmpfs, so the device belongs to it."""

    device: int
    inode: int


def identity(path: str, directory: int | None = None) -> Identity | None:
    """Of what is at this path, relative to the directory that is open there; None if nothing can be seen there. Links
    are not followed."""
    try:
        found = os.stat(path, dir_fd=directory, follow_symlinks=False)
    except OSError:
        return None
    return Identity(found.st_dev, found.st_ino)


def listen(path: str) -> tuple[socket.socket, Identity | None]:
    """A socket that listens at `path` for this user alone (0600), and its file; None if that is gone already.

    It appears there all at once, listening, in the place of one that a dead daemon left behind.
    """
    directory, name = os.path.split(path)
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ReposyncError(f"the socket's directory {directory} cannot be made: {error.strerror}") from error
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _check_directory(directory, os.fstat(descriptor))
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # two daemons that start must not both find the place free
        _check_free(path)
        with addressed(path):
            pass  # raises if it is too long for any client
        new = os.path.join(directory, _NEW)
        with suppress(FileNotFoundError):
            os.unlink(new)
        os.fchmod(listening.fileno(), 0o600)  # bind gives the file this mode: there is no moment with another
        with addressed(new) as address:
            listening.bind(address)
        listening.listen(_BACKLOG)
        os.rename(_NEW, name, src_dir_fd=descriptor, dst_dir_fd=descriptor)
        return listening, identity(name, descriptor)
    except OSError as error:
        listening.close()
        raise ReposyncError(f"{path}: the socket cannot be made: {error.strerror or error}") from error
    except BaseException:
        listening.close()
        raise
    finally:
        os.close(descriptor)


def _check_directory(directory: str, found: os.stat_result) -> None:
    if found.st_uid != os.geteuid():
        raise ReposyncError(f"the socket's directory {directory} belongs to another user; set REPOSYNCD_SOCKET")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not found.st_mode & stat.S_ISVTX:
        raise ReposyncError(
            f"the socket's directory {directory} can be written by others, who could put theirs in its place; "
            f"mend it with: chmod go-w {directory}"
        )


def _check_free(path: str) -> None:
    """Raises unless there is nothing, or a socket that nobody listens at."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise ReposyncError(f"{path} is there and is no socket; remove it, or set REPOSYNCD_SOCKET")
    if running(path):
        raise BusyError(f"another reposyncd daemon listens at {path}; stop it, or set REPOSYNCD_SOCKET")
