"""Files and directories in the state directory: translated errors, durable entries, and the quarantine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from reposyncd.errors import TransientStoreError

QUARANTINE = "quarantine"
"""The directory in the state directory where damaged files are kept: of each name, the last one."""


def free_quarantine(state_dir: str, name: str) -> str:
    """A free path in the quarantine. What was kept there under this name is deleted."""
    directory = os.path.join(state_dir, QUARANTINE)
    path = os.path.join(directory, name)
    with translated(state_dir):
        os.makedirs(directory, mode=0o700, exist_ok=True)
        with suppress(FileNotFoundError, NotADirectoryError):
            shutil.rmtree(path)
        with suppress(FileNotFoundError, IsADirectoryError):
            os.unlink(path)
    return path


@contextmanager
def translated(path: str) -> Iterator[None]:
    """Turns an OSError at `path` into TransientStoreError: the disk is full, read-only or failing, which may pass."""
    try:
        yield
    except OSError as error:
        raise TransientStoreError(f"{error.filename or path}: {error.strerror}") from error


def sync_directory(path: str) -> None:
    """Makes the entries of the directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
