"""Where the vector store is: which directory serves, and how another one replaces it.

`<state>/chroma` is a link to the directory that serves, `<state>/store-XXXXXXXX`. Only setting the link changes which
directory serves: after a crash, it is the old one or the new one. Any other `store-*` is a leftover. Callers of methods
that write hold the state lock.
"""

from __future__ import annotations

import os
import re
import shutil
from contextlib import suppress

from reposyncd.store.chroma.locks import DATABASE
from reposyncd.store.files import QUARANTINE, free_quarantine, sync_directory, translated

LINK = "chroma"
_PREFIX = "store-"
_OURS = re.compile(_PREFIX + "[0-9a-f]{8}")
"""Names of directories that `StoreDirectory.new` has created. Others may belong to somebody else."""

_NEXT_LINK = "chroma.next"


class StoreDirectory:
    """The store directories in a state directory.

    Methods that write raise TransientStoreError if the disk is full, read-only or failing.
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
        """Whether the store contains nothing."""
        current = self.current()
        return current is None or not os.path.exists(os.path.join(current, DATABASE))

    def ensure(self) -> None:
        """Creates an empty store if there is none, and removes the leftovers of a crash."""
        if os.path.isdir(self.link) and not os.path.islink(
            self.link
        ):  # a program that follows links has copied the state directory
            moved = self.new()
            with translated(self._state_dir):
                os.rmdir(moved)
                os.rename(self.link, moved)
            self.serve(moved)
        if self.current() is None:
            self.serve(self.new())
        self.clean()

    def new(self) -> str:
        """Creates another directory for a store. It is empty, and does not serve."""
        path = os.path.join(self._state_dir, _PREFIX + os.urandom(4).hex())
        with translated(self._state_dir):
            os.mkdir(path, 0o700)
        return path

    def serve(self, path: str) -> None:
        """Makes this directory serve. Durable; at any moment, one directory serves."""
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
                    shutil.rmtree(path, ignore_errors=True)  # if it fails, the next start tries again

    def quarantine(self) -> str:
        """Moves the store to the quarantine, and returns its new path. An earlier store that was kept there is
        deleted."""
        current = self.current()
        target = free_quarantine(self._state_dir, LINK)
        if current is not None:
            with translated(self._state_dir):
                os.rename(current, target)
                with suppress(FileNotFoundError):
                    os.unlink(self.link)
                sync_directory(self._state_dir)
        return target

    def empty_quarantine(self) -> bool:
        """Deletes the store in the quarantine. Returns whether there was one."""
        path = os.path.join(self._state_dir, QUARANTINE, LINK)
        existed = os.path.isdir(path)
        shutil.rmtree(path, ignore_errors=True)
        return existed
