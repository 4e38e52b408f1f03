"""The files and directories of one repository that could not be read. Pure: the clock is an argument."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from reposyncd.model import FileError, Scope
from reposyncd.sync.debounce import Debounce

RETRY_FIRST_S = 30.0
"""They are tried again after this time, then after twice that, and so on: no event says that a disk works again."""


class Unreadable:
    """The files that could not be read the last time, and when to try them again."""

    def __init__(self) -> None:
        self.errors: Mapping[str, FileError] = {}
        """by path; replaced, never changed"""
        self.retry = Debounce(RETRY_FIRST_S, RETRY_FIRST_S)
        """the parts of the tree to try again"""
        self._retry_s = 0.0
        """the last time between two attempts"""

    def note(self, scope: Scope, errors: Iterable[FileError], now: float, at_most_s: float) -> None:
        """The scope was synced, and these are the files in it that could not be read. They are tried again after
        `at_most_s` at the latest."""
        elsewhere = {path: each for path, each in self.errors.items() if not scope.covers(each)}
        found = {each.path: each for each in errors}
        was_tried, is_new = len(elsewhere) < len(self.errors), bool(found.keys() - self.errors.keys())
        self.errors = {**elsewhere, **found}
        if not self.errors:
            self.retry.take_all()
            self._retry_s = 0.0
        elif is_new or len(self.retry) == 0:
            if is_new:
                self._retry_s = RETRY_FIRST_S
            elif was_tried:
                self._retry_s = min(2 * self._retry_s, at_most_s)
            self.retry.take_all()
            self.retry.reconfigure(self._retry_s, self._retry_s)
            # For a directory, everything in it is tried again; for a file, `trees` has no other meaning than `flat`.
            directories = frozenset(path.rpartition("/")[0] for path in self.errors)
            self.retry.add_all(Scope(directories, frozenset(self.errors)), now)
