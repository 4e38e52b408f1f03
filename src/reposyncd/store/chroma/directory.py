"""Where the vector store is: which directory serves, and how another takes its place.

`<state>/chroma` is a link to the directory that serves, `<state>/store-XXXXXXXX`. Setting the link is the one step
that changes which: a crash finds the old one or the new one. Any other `store-*` is a leftover. The caller of what
writes holds the state lock.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from reposyncd.errors import TransientStoreError

LINK = "chroma"
_PREFIX = "store-"
_OURS = re.compile(_PREFIX + "[0-9a-f]{8}")
"""Names of directories that `StoreDirectory.new` has made: a person may have put others beside them."""

_NEXT_LINK = "chroma.next"
QUARANTINE = "quarantine"


class StoreDirectory:
    """The store's place in a state directory.

    What writes raises TransientStoreError for a disk that is full, read-only or failing.
    """

    def __init__(self, state_dir: str) -> None:
        self._state_dir = state_dir
        self.link = os.path.join(state_dir, LINK)
        """the path that users and other programs know"""

    def current(self) -> str | None:
        """The directory that serves, if there is one."""
        path = os.path.realpath(self.link)
        return path if os.path.isdir(path) else None

    def is_empty(self) -> bool:
        """Whether no store has ever been written there, or nothing is left of it."""
        current = self.current()
        return current is None or not os.path.exists(os.path.join(current, "chroma.sqlite3"))

    def ensure(self) -> None:
        """Makes an empty store if there is none, and removes what a crash left of others."""
        if os.path.isdir(self.link) and not os.path.islink(self.link):  # copied by a program that follows links
            moved = self.new()
            with translated(self._state_dir):
                os.rmdir(moved)
                os.rename(self.link, moved)
            self.serve(moved)
        if self.current() is None:
            self.serve(self.new())
        self.clean()

    def new(self) -> str:
        """Another directory for a store, empty and not serving."""
        path = os.path.join(self._state_dir, _PREFIX + os.urandom(4).hex())
        with translated(self._state_dir):
            os.mkdir(path, 0o700)
        return path

    def serve(self, path: str) -> None:
        """From now on this directory serves. Durable, and at no moment is there none."""
        following = os.path.join(self._state_dir, _NEXT_LINK)
        with translated(self._state_dir):
            with suppress(FileNotFoundError):
                os.unlink(following)
            os.symlink(os.path.basename(path), following)
            os.replace(following, self.link)
            sync_directory(self._state_dir)

    def clean(self) -> None:
        """Removes every store that does not serve."""
        current = self.current()
        with translated(self._state_dir):
            with suppress(FileNotFoundError):
                os.unlink(os.path.join(self._state_dir, _NEXT_LINK))
            for entry in os.listdir(self._state_dir):
                path = os.path.join(os.path.realpath(self._state_dir), entry)
                if _OURS.fullmatch(entry) and path != current:
                    shutil.rmtree(path, ignore_errors=True)  # tried again at the next start

    def quarantine(self) -> str:
        """Moves the store aside, and returns where it is now; the one that was there before is removed."""
        current = self.current()
        target = quarantined(self._state_dir, LINK)
        if current is not None:
            with translated(self._state_dir):
                os.rename(current, target)
                with suppress(FileNotFoundError):
                    os.unlink(self.link)
                sync_directory(self._state_dir)
        return target

    def empty_quarantine(self) -> bool:
        """Removes the store that is kept there. Whether there was one."""
        path = os.path.join(self._state_dir, QUARANTINE, LINK)
        there = os.path.isdir(path)
        shutil.rmtree(path, ignore_errors=True)
        return there


def quarantined(state_dir: str, name: str) -> str:
    """A path in the quarantine that is free: what was kept there under this name is removed."""
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
    """What the file system refuses at `path` as trouble that may pass: a disk that is full, read-only or failing."""
    try:
        yield
    except OSError as error:
        raise TransientStoreError(f"{error.filename or path}: {error.strerror}") from error


def sync_directory(path: str) -> None:
    """Makes the directory's entries durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
