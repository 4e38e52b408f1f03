"""One inotify descriptor, and the thread that reads it.

Opening, waiting, reading and closing come from `InotifyFD` in watchdog 7.1, which is private to that library. Its
tables, callbacks and emitters are not used: they need an object for each watch and each event, and ignore EACCES.
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
"""All events that change a directory or a file in it, but none that are caused by reading. It is the same for all
watches, because a second watch of an inode replaces the mask of the first one."""

_BUFFER_BYTES = 256 << 10
"""Size of one read: about 8000 events. So most repeated events of a burst are in the same buffer, and are dropped."""

_LOCK_S = 0.5
"""How long `stalled_s` waits for a thread that is adding a watch, which normally takes microseconds."""

_CLOSE_S = 5.0
"""How long `close` waits for the thread, which ends at once unless a callback takes time."""


class Inotify(InotifyFD):
    """A thread that reads events until it is closed, or an exception ends it. Its methods are thread-safe.

    The thread calls `on_events` with the result of each read: one or more complete events. If an exception ends the
    thread, it closes the descriptor, and then calls `on_death` once with the exception; not after `close`. The
    constructor raises OSError (EMFILE) if the system has no inotify instance or no file descriptor left.
    """

    def __init__(self, *, on_events: Callable[[bytes], None], on_death: Callable[[BaseException], None]) -> None:
        self._inotify_fd = -1
        try:
            super().__init__()
        except OSError:
            if self._inotify_fd >= 0:  # the pipe could not be made
                os.close(self._inotify_fd)
            raise
        os.set_inheritable(self._inotify_fd, False)
        self.name = "inotify"
        self._is_reading = False  # until the thread reads, `close` has to close the descriptor itself
        self._busy_since: float | None = None
        self._reads = 0
        self._unread: tuple[int, float] | None = None
        """(number of reads, monotonic seconds) when `stalled_s` first saw that there were unread events; None if there
        are none"""
        self._on_events = on_events
        self._on_death = on_death

    def add(self, path: bytes) -> int:
        """Watches a directory. Returns its watch descriptor, which is the same one if it is watched already.

        Raises OSError: ENOSPC if the limit of watches is reached, EBADF if the thread has ended.
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
        """Ends a watch. Its last event is then IGNORED. Returns False if it has ended already."""
        with self._lock:
            return not self._closed and inotify_rm_watch(self._inotify_fd, WatchDescriptor(wd)) == 0

    def stalled_s(self) -> float:
        """For how many seconds the thread has been handling the events of its last read, or has left events unread. 0
        if it waits for events. The second case is only noticed from the second call on."""
        since, now = self._busy_since, time.monotonic()
        if since is not None:
            return now - since
        if not self._lock.acquire(timeout=_LOCK_S):
            return 0.0  # a thread that is adding a watch hangs
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
        """The code of the thread."""
        try:
            while buffer := self._read_event_buffer(_BUFFER_BYTES):
                self._busy_since = time.monotonic()
                self._reads += 1
                self._on_events(buffer)
                self._busy_since = None
            if not self._closed:
                raise OSError(errno.EBADF, "something else has closed the inotify descriptor")
        except BaseException as error:
            with self._lock:
                was_closed, self._closed = self._closed, True
                if not was_closed or self._is_reading:
                    with suppress(OSError):
                        self._close_resources()
            if not was_closed:
                self._on_death(error)

    def close(self) -> None:
        """Ends the thread, and waits until a running callback returns, unless the callback is the caller.
        Idempotent."""
        super().close()
        with suppress(RuntimeError):  # the caller is this thread, or the thread was never started
            self.join(_CLOSE_S)
