"""The two locks: one writer of a state directory, and one writer at a time of a Chroma directory.

Both are `flock(2)` through filelock, so a process that dies lets go of them, and the files stay in place.
"""

from __future__ import annotations

import fcntl
import math
import os
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from reposyncd.errors import BusyError, StoreBusyError, TransientStoreError

STATE_LOCK = "reposyncd.lock"
"""Inside the state directory."""

CHROMA_LOCK = ".chroma.lock"
"""Inside the Chroma directory: the convention of other ChromaDB programs, which flock the same file."""

DATABASE = "chroma.sqlite3"
"""Chroma's database, in its directory."""

NO_LOCK = math.inf
"""A time-out for a directory that nobody else knows: no lock is taken."""

_SQLITE_LOCKS, _SQLITE_LOCKS_SIZE = 0x40000000, 512
"""PENDING_BYTE, and how many bytes from there on SQLite locks: pending, reserved, shared."""

_POLL_S = 0.05


@contextmanager
def state_lock(state_dir: str, timeout_s: float) -> Iterator[None]:
    """Holds `<state>/reposyncd.lock`, whose text is the holder's process id.

    Raises BusyError, which names the holder, when it is not had within `timeout_s`.
    """
    path = os.path.join(state_dir, STATE_LOCK)

    def busy() -> BusyError:
        return BusyError(
            f"another reposyncd{_named(path)} is writing to {state_dir}; waited {timeout_s:g} s for it. "
            "Try again when it is done, or set a longer lock.timeout."
        )

    with _held(path, timeout_s, busy):
        with suppress(OSError), open(path, "w", encoding="ascii") as file:  # a courtesy, which a full disk may refuse
            file.write(f"{os.getpid()}\n")
        yield


@contextmanager
def chroma_lock(
    chroma_dir: str, timeout_s: float, on_wait: Callable[[str], None] = lambda reason: None
) -> Iterator[None]:
    """Holds `<chroma dir>/.chroma.lock` around one batch; tells `on_wait` if it is not had at once.

    Raises StoreBusyError when another program holds it for longer than `timeout_s`.
    """
    path = os.path.join(chroma_dir, CHROMA_LOCK)

    def busy() -> StoreBusyError:
        return StoreBusyError(f"another program has held {path} for {timeout_s:g} s; the batch waits for its next turn")

    def wait() -> None:
        on_wait(f"another program holds {path}")

    with _held(path, timeout_s, busy, wait):
        yield


def wait_for_database(
    descriptor: int, chroma_dir: str, timeout_s: float, on_wait: Callable[[str], None] = lambda reason: None
) -> None:
    """Returns when no other process has Chroma's database, open for reading as `descriptor`, locked.

    Chroma itself would hang for a quarter of an hour. Takes no lock. A process in which SQLite has the database open
    must keep the descriptor: closing it drops that SQLite's locks (sqlite.org/howtocorrupt.html, section 2.2). The
    bytes that SQLite locks are those of its os_unix.c.

    Raises StoreBusyError, which names the holder, when one has it for longer than `timeout_s`.
    """
    path = os.path.join(chroma_dir, DATABASE)
    deadline = time.monotonic() + timeout_s
    told = False
    while pid := _locked_by(descriptor):
        if time.monotonic() > deadline:
            raise StoreBusyError(
                f"another program (process {pid}) has had {path} locked for {timeout_s:g} s; the batch waits for its "
                "next turn"
            )
        if not told:
            on_wait(f"another program (process {pid}) has {path} locked")
            told = True
        time.sleep(_POLL_S)


def _locked_by(descriptor: int) -> int:
    """The process that has a lock of SQLite's on the file, other than this one; 0 if there is none."""
    asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, _SQLITE_LOCKS, _SQLITE_LOCKS_SIZE, 0)
    kind, _, _, _, pid = struct.unpack("hhqqi4x", fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))
    return 0 if kind == fcntl.F_UNLCK else pid


def holder(path: str) -> int | None:
    """The process that holds the lock file, None if nobody does; 0 if it cannot be told who."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # a moment; who waits for the lock tries again
        except OSError:
            return _flocked_by(os.fstat(descriptor).st_ino)
        return None
    finally:
        os.close(descriptor)


def _flocked_by(inode: int) -> int:
    """As the kernel tells it: `1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF` (proc(5))."""
    with suppress(OSError, ValueError), open("/proc/locks", encoding="ascii") as locks:
        for line in locks:
            fields = line.split()
            if fields[1] == "FLOCK" and fields[3] == "WRITE" and fields[5].endswith(f":{inode}"):
                return max(0, int(fields[4]))
    return 0


@contextmanager
def _held(
    path: str, timeout_s: float, busy: Callable[[], Exception], on_wait: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Holds the lock file; raises what `busy` makes, at that moment, when it is not had in time."""
    from filelock import FileLock, Timeout

    lock = FileLock(path, mode=0o600, poll_interval=_POLL_S)
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            on_wait()
            lock.acquire(timeout=max(timeout_s, _POLL_S))  # it may only have been somebody who asks for the holder
    except Timeout:
        raise busy() from None
    except OSError as error:  # a disk that is full or read-only, a directory that is gone
        raise TransientStoreError(f"{path} cannot be locked: {error.strerror}") from error
    try:
        yield
    finally:
        lock.release()


def _named(path: str) -> str:
    """The holder as the kernel tells it, or else, as where that is in another container, as it has said itself."""
    pid = str(holder(path) or "")
    if not pid:
        with open(path, encoding="ascii", errors="replace") as file:
            pid = file.readline().strip()
    return f" (process {pid})" if pid.isdigit() else ""
