"""The locks of an embedded Chroma directory: one writer at a time, among all programs that use the directory."""

from __future__ import annotations

import fcntl
import math
import os
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from reposyncd.errors import StoreBusyError
from reposyncd.store.locks import POLL_S, held

CHROMA_LOCK = ".chroma.lock"
"""Name of the lock file in the Chroma directory. Other ChromaDB programs flock the same file."""

DATABASE = "chroma.sqlite3"
"""Name of Chroma's database in its directory."""

NO_LOCK = math.inf
"""A time-out for a directory that no other program knows: no lock is taken."""

_SQLITE_LOCKS, _SQLITE_LOCKS_SIZE = 0x40000000, 512
"""PENDING_BYTE, and the number of bytes from there on that SQLite locks: pending, reserved, shared."""


@contextmanager
def chroma_lock(
    chroma_dir: str, timeout_s: float, on_wait: Callable[[str], None] = lambda reason: None
) -> Iterator[None]:
    """Holds `<chroma dir>/.chroma.lock` around one write. If it is not free at once, calls `on_wait` with the reason.

    Raises StoreBusyError if another program holds it for longer than `timeout_s`.
    """
    path = os.path.join(chroma_dir, CHROMA_LOCK)

    def busy() -> StoreBusyError:
        return StoreBusyError(f"another program has held {path} for {timeout_s:g} s; the batch will be retried")

    def wait() -> None:
        on_wait(f"another program holds {path}")

    with held(path, timeout_s, busy, wait):
        yield


def wait_for_database(
    descriptor: int, chroma_dir: str, timeout_s: float, on_wait: Callable[[str], None] = lambda reason: None
) -> None:
    """Returns when no other process has locked Chroma's database, which is open for reading as `descriptor`.

    Chroma itself would hang for a quarter of an hour. This takes no lock. If SQLite has the database open in this
    process, the descriptor must stay open: closing it would release SQLite's own locks (sqlite.org/howtocorrupt.html,
    section 2.2). The locked bytes are those in SQLite's os_unix.c.

    Raises StoreBusyError, which names the holder, if the database is locked for longer than `timeout_s`.
    """
    path = os.path.join(chroma_dir, DATABASE)
    deadline = time.monotonic() + timeout_s
    reported = False
    while pid := _locked_by(descriptor):
        if time.monotonic() > deadline:
            raise StoreBusyError(
                f"another program (process {pid}) has had {path} locked for {timeout_s:g} s; the batch will be retried"
            )
        if not reported:
            on_wait(f"another program (process {pid}) has {path} locked")
            reported = True
        time.sleep(POLL_S)


def _locked_by(descriptor: int) -> int:
    """The id of another process that holds one of SQLite's locks on the file; 0 if there is none."""
    asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, _SQLITE_LOCKS, _SQLITE_LOCKS_SIZE, 0)
    kind, _, _, _, pid = struct.unpack("hhqqi4x", fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))
    return 0 if kind == fcntl.F_UNLCK else pid
