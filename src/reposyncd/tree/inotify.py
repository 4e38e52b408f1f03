"""One inotify descriptor and the thread that reads it.

Built on what is private to watchdog 7.1: the opening, waiting, reading and closing of its `InotifyFD`. Its tables,
callbacks and emitters are not used: they hold an object for each watch and another for each event, and swallow EACCES.
"""

from __future__ import annotations

import array
import ctypes
import errno
import fcntl
import os
import termios
import time
from collections.abc import Callable
from contextlib import suppress

from watchdog.observers.inotify_c import (
    InotifyConstants,
    InotifyFD,
    Mask,
    WatchDescriptor,
    inotify_add_watch,
    inotify_rm_watch,
)

IS_DIR = InotifyConstants.IN_ISDIR
IGNORED = InotifyConstants.IN_IGNORED
OVERFLOW = InotifyConstants.IN_Q_OVERFLOW

_MASK = Mask(
    InotifyConstants.IN_MODIFY
    | InotifyConstants.IN_ATTRIB
    | InotifyConstants.IN_CLOSE_WRITE
    | InotifyConstants.IN_MOVED_FROM
    | InotifyConstants.IN_MOVED_TO
    | InotifyConstants.IN_CREATE
    | InotifyConstants.IN_DELETE
    | InotifyConstants.IN_DELETE_SELF
    | InotifyConstants.IN_MOVE_SELF
    | InotifyConstants.IN_ONLYDIR
    | InotifyConstants.IN_DONT_FOLLOW
    | InotifyConstants.IN_EXCL_UNLINK
)
"""What changes a directory or a file in it; nothing that reading does. The same for every watch: a second one of an
inode replaces the mask of the first."""

_BUFFER_BYTES = 256 << 10
"""Of one read: some 8000 events, so that what a storm repeats is mostly seen, and dropped, within one buffer."""

_LOCK_S = 0.5
"""How long a look at the thread waits for who adds a watch, which takes microseconds."""

_LEAVE_S = 5.0
"""How long `close` waits for the thread. It only takes time when a callback does."""


class Inotify(InotifyFD):
    """Reads events until it is closed or something raises. Thread-safe.

    `on_events` is called from the thread with what one read gave: whole events, at least one. `on_death` is called
    from it, once and at the end, with what was raised, when the descriptor is closed already; not after `close`.
    Raises OSError (EMFILE) if there is no inotify instance or no file descriptor to be had.
    """

    def __init__(self, *, on_events: Callable[[bytes], None], on_death: Callable[[BaseException], None]) -> None:
        self._inotify_fd = -1
        try:
            super().__init__()
        except OSError:
            if self._inotify_fd >= 0:  # the pipe could not be had
                os.close(self._inotify_fd)
            raise
        os.set_inheritable(self._inotify_fd, False)
        self.name = "inotify"
        self._is_reading = False  # until it does, `close` has nobody to leave the closing to
        self._busy_since: float | None = None
        self._reads = 0
        self._unread: tuple[int, float] | None = None
        """reads that there had been when events were first seen to wait for the next one, and when that was"""
        self._on_events = on_events
        self._on_death = on_death

    def add(self, path: bytes) -> int:
        """Watches a directory; returns its watch descriptor, the one that it has if it is watched.

        Raises OSError: of ENOSPC at the limit of watches, of EBADF when the thread has ended.
        """
        with self._lock:
            if self._closed:
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            wd = inotify_add_watch(self._inotify_fd, path, _MASK)
            if wd == -1:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))
            return wd

    def remove(self, wd: int) -> bool:
        """Ends a watch: IGNORED is its last event. False if it has ended already."""
        with self._lock:
            return not self._closed and inotify_rm_watch(self._inotify_fd, WatchDescriptor(wd)) == 0

    def stalled_s(self) -> float:
        """For how long the thread has been at the events that it read last; or, as far as earlier calls can tell, for
        how long it has left unread what there is. 0 if it waits for events."""
        since, now = self._busy_since, time.monotonic()
        if since is not None:
            return now - since
        if not self._lock.acquire(timeout=_LOCK_S):
            return 0.0  # a watch is being added, and whoever does that hangs
        try:
            waiting = array.array("i", [0])
            if not self._closed:
                fcntl.ioctl(self._inotify_fd, termios.FIONREAD, waiting)
        finally:
            self._lock.release()
        if not waiting[0]:
            self._unread = None
        elif self._unread is None or self._unread[0] != self._reads:
            self._unread = self._reads, now
        return 0.0 if self._unread is None else now - self._unread[1]

    def run(self) -> None:
        """The thread."""
        try:
            while buffer := self._read_event_buffer(_BUFFER_BYTES):
                self._busy_since = time.monotonic()
                self._reads += 1
                self._on_events(buffer)
                self._busy_since = None
            if not self._closed:
                raise OSError(errno.EBADF, "somebody else has closed the inotify descriptor")
        except BaseException as error:
            with self._lock:
                was_closed, self._closed = self._closed, True
                if not was_closed or self._is_reading:
                    with suppress(OSError):
                        self._close_resources()
            if not was_closed:
                self._on_death(error)

    def close(self) -> None:
        """Ends the thread, and waits for the callback that it is in, unless it is called from that; idempotent."""
        super().close()
        with suppress(RuntimeError):  # this thread itself, or never started
            self.join(_LEAVE_S)
