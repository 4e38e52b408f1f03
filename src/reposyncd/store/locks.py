"""The lock of a state directory, which makes one process its only writer, and functions for other lock files.

All of them are `flock(2)` locks, taken with filelock: when a process dies, its locks are released. The files stay.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from reposyncd.errors import BusyError, TransientStoreError

STATE_LOCK = "reposyncd.lock"
"""Name of the lock file in the state directory."""

POLL_S = 0.05
"""Time between two attempts to take a lock."""


@contextmanager
def state_lock(state_dir: str, timeout_s: float) -> Iterator[None]:
    """Holds `<state>/reposyncd.lock`, and writes the id of this process into it.

    Raises BusyError, which names the holder, if the lock is not free within `timeout_s`.
    """
    path = os.path.join(state_dir, STATE_LOCK)

    def busy() -> BusyError:
        return BusyError(
            f"another reposyncd{_named(path)} is writing to {state_dir}; waited {timeout_s:g} s for it. "
            "Try again when it has finished, or set a longer lock.timeout."
        )

    with held(path, timeout_s, busy):
        with suppress(OSError), open(path, "w", encoding="ascii") as file:  # optional: a full disk may prevent it
            file.write(f"{os.getpid()}\n")
        yield


def holder(path: str) -> int | None:
    """The id of the process that holds the lock file: None if nobody does, 0 if it is unknown."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # only for a moment; those who wait try again
        except OSError:
            return _flocked_by(os.fstat(descriptor).st_ino)
        return None
    finally:
        os.close(descriptor)


def _flocked_by(inode: int) -> int:
    """The holder according to the kernel: `1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF` (proc(5))."""
    with suppress(OSError, ValueError), open("/proc/locks", encoding="ascii") as locks:
        for line in locks:
            fields = line.split()
            if fields[1] == "FLOCK" and fields[3] == "WRITE" and fields[5].endswith(f":{inode}"):
                return max(0, int(fields[4]))
    return 0


@contextmanager
def held(
    path: str, timeout_s: float, busy: Callable[[], Exception], on_wait: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Holds the lock file. If it is not free at once, calls `on_wait` once. If it is not free in time, raises the error
    that `busy` returns. Raises TransientStoreError if the file cannot be created or opened."""
    from filelock import FileLock, Timeout

    lock = FileLock(path, mode=0o600, poll_interval=POLL_S)
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            on_wait()
            lock.acquire(timeout=max(timeout_s, POLL_S))  # somebody may hold it only to find out its holder
    except Timeout:
        raise busy() from None
    except OSError as error:  # for example, the disk is full or read-only, or the directory was deleted
        raise TransientStoreError(f"{path} cannot be locked: {error.strerror}") from error
    try:
        yield
    finally:
        lock.release()


def _named(path: str) -> str:
    """The holder according to the kernel; if it is in another container, according to the file."""
    pid = str(holder(path) or "")
    if not pid:
        with open(path, encoding="ascii", errors="replace") as file:
            pid = file.readline().strip()
    return f" (process {pid})" if pid.isdigit() else ""
