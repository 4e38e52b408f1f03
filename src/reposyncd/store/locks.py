"""The two locks: one writer of a state directory, and one writer at a time of a Chroma directory.

Both are `flock(2)` through filelock, so a process that dies lets go of them, and the files stay in place.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from reposyncd.errors import BusyError, StoreBusyError

CHROMA_LOCK = ".chroma.lock"
"""Inside the Chroma directory: the convention of other ChromaDB programs, which flock the same file."""

_POLL_S = 0.05


@contextmanager
def state_lock(state_dir: str, timeout_s: float) -> Iterator[None]:
    """Holds `<state>/reposyncd.lock`, whose text is the holder's process id.

    Raises BusyError, which names the holder, when it is not had within `timeout_s`.
    """
    path = os.path.join(state_dir, "reposyncd.lock")

    def busy() -> BusyError:
        return BusyError(
            f"another reposyncd{_holder(path)} is writing to {state_dir}; waited {timeout_s:g} s for it. "
            "Try again when it is done, or set a longer lock.timeout."
        )

    with _held(path, timeout_s, busy):
        with open(path, "w", encoding="ascii") as file:
            file.write(f"{os.getpid()}\n")
        yield


@contextmanager
def chroma_lock(chroma_dir: str, timeout_s: float) -> Iterator[None]:
    """Holds `<chroma dir>/.chroma.lock` around one batch.

    Raises StoreBusyError when another program holds it for longer than `timeout_s`.
    """
    path = os.path.join(chroma_dir, CHROMA_LOCK)

    def busy() -> StoreBusyError:
        return StoreBusyError(f"another program has held {path} for {timeout_s:g} s; the batch waits for its next turn")

    with _held(path, timeout_s, busy):
        yield


@contextmanager
def _held(path: str, timeout_s: float, busy: Callable[[], Exception]) -> Iterator[None]:
    """Holds the lock file; raises what `busy` makes, at that moment, when it is not had in time."""
    from filelock import FileLock, Timeout

    lock = FileLock(path, mode=0o600, poll_interval=_POLL_S)
    try:
        lock.acquire(timeout=timeout_s)
    except Timeout:
        raise busy() from None
    try:
        yield
    finally:
        lock.release()


def _holder(path: str) -> str:
    """The holder as far as it has said who it is."""
    with open(path, encoding="ascii", errors="replace") as file:
        pid = file.readline().strip()
    return f" (process {pid})" if pid.isdigit() else ""
