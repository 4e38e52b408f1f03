"""The daemon's socket: whose it is, who may connect, and a thread for each who does."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import threading
from collections.abc import Callable
from contextlib import suppress

from reposyncd.client import addressed, peer_uid, running
from reposyncd.errors import BusyError, ReposyncError

CONNECTIONS = 64
"""Served at once. Each costs a thread, and a person with some editors and shells has a handful."""

GRACE_S = 1.0
"""How long a request that is being answered may go on after the close."""

_NEW = ".new.sock"
"""A socket that does not listen yet, in the directory of the one that it will be."""

_BACKLOG = 128
"""Connections that the kernel holds until they are accepted, which is at once."""

_EXHAUSTED_S = 0.5
"""Pause after a connection that could not be accepted, as when this process has too many files open."""


class UnixSocket:
    """Listens at `path` and calls `answer(connection)` in a thread of its own for each who connects.

    While nobody does, nothing wakes up. Connections of other users are closed unheard; those over the limit are sent
    `refusal`. `answer` need not close the connection; an OSError that it raises means that the caller is gone.

    Raises BusyError if another daemon listens there, and ReposyncError if the place cannot be used.
    """

    def __init__(
        self,
        path: str,
        answer: Callable[[socket.socket], None],
        *,
        refusal: bytes,
        connections: int = CONNECTIONS,
    ) -> None:
        self._path = path
        self._answer = answer
        self._refusal = refusal
        self._limit = connections
        self._changed = threading.Condition()
        self._connections: set[socket.socket] = set()
        self._closing = threading.Event()
        self._socket, self._inode = _listen(path)
        self._thread = threading.Thread(target=self._accept, name="api", daemon=True)
        self._thread.start()

    def close(self, grace_s: float = GRACE_S) -> None:
        """Ends at once for who is yet to ask; what is being answered may end within `grace_s` and is cut off then.

        The socket's file is removed if it still is this one. May be called again, and from any thread.
        """
        if self._closing.is_set():
            return
        with suppress(OSError):  # while this still listens, nobody takes the place for free
            if os.lstat(self._path).st_ino == self._inode:
                os.unlink(self._path)
        self._closing.set()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._thread.join()
        self._socket.close()
        with self._changed:
            self._cut(socket.SHUT_RD)
            self._changed.wait_for(lambda: not self._connections, grace_s)
            self._cut(socket.SHUT_RDWR)

    def _cut(self, how: int) -> None:
        for connection in self._connections:
            with suppress(OSError):
                connection.shutdown(how)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except ConnectionAbortedError:
                continue
            except OSError:
                if self._closing.wait(_EXHAUSTED_S):
                    return
                continue
            if peer_uid(connection) != os.geteuid() or not self._admit(connection):
                connection.close()

    def _admit(self, connection: socket.socket) -> bool:
        """Whether somebody answers the connection from now on; if not, the caller was told why."""
        with self._changed:
            if len(self._connections) < self._limit:
                self._connections.add(connection)
                try:
                    threading.Thread(target=self._serve, args=(connection,), name="api-call", daemon=True).start()
                    return True
                except RuntimeError:  # the system gives no more threads
                    self._connections.discard(connection)
        with suppress(OSError):
            connection.send(self._refusal, socket.MSG_DONTWAIT)
        return False

    def _serve(self, connection: socket.socket) -> None:
        try:
            with suppress(OSError):
                self._answer(connection)
        finally:
            with self._changed:
                self._connections.discard(connection)
                self._changed.notify_all()
            connection.close()


def _listen(path: str) -> tuple[socket.socket, int]:
    """A socket that listens at `path` for this user alone (0600), and its file's inode.

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
        return listening, os.stat(name, dir_fd=descriptor).st_ino
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
