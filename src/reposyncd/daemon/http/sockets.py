"""The sockets at which the service listens: its Unix socket, and a TCP address if one is configured."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
from contextlib import suppress
from typing import NamedTuple

from reposyncd.app.client import addressed, running
from reposyncd.config import address_of
from reposyncd.errors import BusyError, ReposyncError

_NEW = ".new.sock"
"""Suffix of a socket that does not listen yet. It is in the same directory as its final path."""

_BACKLOG = 128
"""How many connections the kernel queues until the service accepts them, which it does at once."""


class FileId(NamedTuple):
    """Identifies an existing file. The device is needed, since every new tmpfs starts its inode numbers again."""

    device: int
    inode: int


def file_id(path: str, directory: int | None = None) -> FileId | None:
    """The file at this path, relative to an open directory if one is given; None if it cannot be examined. Links are
    not followed."""
    try:
        found = os.stat(path, dir_fd=directory, follow_symlinks=False)
    except OSError:
        return None
    return FileId(found.st_dev, found.st_ino)


def listen_at_path(path: str) -> tuple[socket.socket, FileId | None]:
    """A socket that listens at `path`, for this user only (0600), and its file; None if the file is already gone.

    The socket is already listening when its file appears at `path`, where it replaces the file of a dead service.
    Raises BusyError if another service listens at `path`, and ReposyncError if the socket cannot be created.
    """
    directory, name = os.path.split(path)
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ReposyncError(f"the socket's directory {directory} cannot be created: {error.strerror}") from error
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _check_directory(directory, os.fstat(descriptor))
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # two services that start must not both find the path free
        _check_free(path)
        with addressed(path):
            pass  # raises if the path is too long for any client
        new = os.path.join(directory, _NEW)
        with suppress(FileNotFoundError):
            os.unlink(new)
        os.fchmod(listening.fileno(), 0o600)  # bind then creates the file with this mode
        with addressed(new) as address:
            listening.bind(address)
        listening.listen(_BACKLOG)
        os.rename(_NEW, name, src_dir_fd=descriptor, dst_dir_fd=descriptor)
        return listening, file_id(name, descriptor)
    except OSError as error:
        listening.close()
        raise ReposyncError(f"{path}: the socket cannot be created: {error.strerror or error}") from error
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
            f"other users can write to the socket's directory {directory} and could replace the socket; "
            f"fix it with: chmod go-w {directory}"
        )


def _check_free(path: str) -> None:
    """Raises ReposyncError unless there is nothing at the path, or a socket at which nobody listens."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise ReposyncError(f"{path} exists and is not a socket; remove it, or set REPOSYNCD_SOCKET")
    if running(path):
        raise BusyError(f"another reposyncd service listens at {path}; stop it, or set REPOSYNCD_SOCKET")


def listen_at_address(address: str) -> socket.socket:
    """A socket that listens at this value of `api.listen`. Raises BusyError if another program listens there, and
    ReposyncError if the address cannot be used."""
    host, port = address_of(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(_BACKLOG)
        listening.setblocking(False)
        return listening
    except OSError as error:
        listening.close()
        kind = BusyError if error.errno == errno.EADDRINUSE else ReposyncError
        raise kind(f"cannot listen at {address} (api.listen): {error.strerror}; choose another port") from error
