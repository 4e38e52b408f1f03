"""Lists a tree, and compares each directory with what is on record.

A directory is unchanged if its signature (a digest of the names and stats of its entries) and its ignore rules are
those on record. Then the scan only lists it. The caller must only pass rows that can be trusted: a signature that was
taken less than two seconds after one of its time stamps proves nothing.

Each directory is opened through the open directory that contains it, by name and without following links. So if
somebody replaces a directory by a link during the scan, the link is not followed, at any depth.
"""

from __future__ import annotations

import errno
import gc
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from reposyncd.errors import RefusedRootError, RootMissingError
from reposyncd.model import (
    RACY_NS,
    WHOLE,
    DirectoryError,
    DirectoryRow,
    FileError,
    FileStat,
    RootIdentity,
    Scope,
    signed64,
)
from reposyncd.paths import join
from reposyncd.text import encodable, is_utf8
from reposyncd.tree.directory import OPEN_DIRECTORY, open_below
from reposyncd.tree.entries import RULE_FILES, SelectedEntries, list_directory
from reposyncd.tree.gitdir import is_repository, is_worktree_of, read_small
from reposyncd.tree.ignore import GITIGNORE, NO_RULES, OWN_IGNORE, IgnoreRules
from reposyncd.tree.offlimits import OffLimits

_OPEN_AT_MOST = 64
"""How many directories are open at the same time, each the parent of the next, out of the usual 1024 file descriptors
of a process. Deeper ones, which do not occur in real source trees, are opened from the last of these, name by name."""

_PATH_MAX_BYTES = 4096
"""The longest path on Linux, including the NUL. Directories may be deeper, but no program can pass their path."""

_GONE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}
"""Errors that mean that the directory has disappeared, or has become something else, since its parent was listed."""

_NEVER_ENTERED = ("", ".", "..", ".git")

NOTHING = OffLimits()
"""The `OffLimits` of a scan that may enter everything."""


@dataclass(frozen=True, slots=True)
class ScannedDirectory:
    """A directory that is new, or differs from its row."""

    path: str
    """relative to the root, "" for the root"""
    row: DirectoryRow
    trusted: bool
    """whether the row may be recorded: all time stamps in it are old enough"""
    files: tuple[tuple[str, FileStat], ...]
    """(path relative to the root, stat) of the files that may be indexed"""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The result of a scan.

    If a known directory in the scope is neither in `unchanged` nor in `changed`, it is gone or ignored. The exception
    is a directory that is in `unreadable`, or below one of those: nothing is known about it.
    """

    identity: RootIdentity
    unchanged: frozenset[str]
    changed: tuple[ScannedDirectory, ...]
    unreadable: tuple[FileError, ...]
    """directories that cannot be listed, and entries whose stat cannot be read"""


def scan(
    root: str,
    rules: IgnoreRules,
    known: Mapping[str, DirectoryRow],
    *,
    now_ns: int,
    max_file_size: int,
    allowed: IgnoreRules = NO_RULES,
    worktrees: bool = False,
    off_limits: OffLimits = NOTHING,
    scope: Scope = WHOLE,
    observer: ScanObserver | None = None,
) -> Snapshot:
    """Lists the part of the tree at `root` that is in the scope. Symbolic links are not followed.

    `root` is an absolute path without symbolic links. `rules` are the ignore rules from outside the root. They must
    have been made for the same `allowed` and `max_file_size` (bytes), because the skips in known rows depend on these.
    `allowed` covers the files that are indexed even if they have names of secrets. Unless `worktrees` is true, a linked
    work tree inside its own repository is left out. `now_ns` is the wall clock. Directories that are `off_limits` are
    neither entered nor counted. The observer is called for each directory.

    Raises RootMissingError if the root is not a directory, and RefusedRootError if the root itself is off limits.
    """
    was_enabled = gc.isenabled()
    gc.disable()  # a scan creates up to a million short-lived tuples, and no reference cycles
    try:
        selection = SelectedEntries(max_file_size, allowed)
        return _Scan(root, known, now_ns - RACY_NS, selection, worktrees, off_limits, observer).run(rules, scope)
    finally:
        if was_enabled:
            gc.enable()


class ScanObserver(NamedTuple):
    """Functions that are called for each directory, with its path, while it is scanned."""

    enter: Callable[[str, int], object]
    """(path, descriptor): the directory is open, and is listed next"""
    learn: Callable[[str, IgnoreRules], object]
    """(path, rules): these ignore rules apply in the directory"""


class _Level(NamedTuple):
    """A listed directory with subdirectories that are still to be entered."""

    path: str
    fd: int | None
    """an open descriptor; None below the levels that are kept open"""
    rules: IgnoreRules
    inner: list[str]
    """names of the subdirectories that are still to be entered"""


class _Scan:
    def __init__(
        self,
        root: str,
        known: Mapping[str, DirectoryRow],
        trusted_until_ns: int,
        selection: SelectedEntries,
        worktrees: bool,
        off_limits: OffLimits,
        observer: ScanObserver | None,
    ) -> None:
        self._root = root
        self._observer = observer
        self._selection = selection
        self._known = known
        self._trusted_until_ns = trusted_until_ns
        self._worktrees = worktrees
        prefix = os.path.join(root, "")
        self._prefix_bytes = len(os.fsencode(prefix))
        self._off_limits = off_limits
        self._levels: list[_Level] = []
        self._reached: dict[str, IgnoreRules] = {}
        """the rules in the directories between the root and the scope"""
        self._unchanged: list[str] = []
        self._changed: list[ScannedDirectory] = []
        self._unreadable: list[FileError] = []

    def run(self, rules: IgnoreRules, scope: Scope) -> Snapshot:
        try:
            fd = os.open(self._root, OPEN_DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            raise RootMissingError(f"{self._root} does not exist, or is not a directory") from None
        except OSError as error:
            raise RootMissingError(f"{self._root} cannot be listed: {error.strerror}") from error
        found = os.fstat(fd)
        if self._off_limits.holds(found):  # if it were listed as empty, its whole index would be deleted
            os.close(fd)
            raise RefusedRootError(f"{self._root} must not be indexed; remove it with: reposyncd repo remove")
        try:
            scope = scope.without_overlaps()
            for path in sorted(scope.trees):
                self._reach(fd, path, rules)
                self._list_levels()
            for path in sorted(scope.flat):
                self._reach(fd, path, rules)
                self._leave_levels()
        finally:
            os.close(fd)
            self._leave_levels()
        identity = RootIdentity(signed64(found.st_dev), signed64(found.st_ino))
        return Snapshot(identity, frozenset(self._unchanged), tuple(self._changed), tuple(self._unreadable))

    def _list_levels(self) -> None:
        """Lists everything below the directories in `_levels`."""
        while self._levels:
            level = self._levels[-1]
            if level.inner:
                self._enter(level, level.inner.pop())
            else:
                self._leave(self._levels.pop())

    def _leave_levels(self) -> None:
        while self._levels:
            self._leave(self._levels.pop())

    def _leave(self, level: _Level) -> None:
        if level.fd is not None:
            os.close(level.fd)

    def _reach(self, root: int, path: str, rules: IgnoreRules) -> None:
        """Lists a directory of the scope, unless it, or one that contains it, is ignored or not a directory any
        more."""
        fd = os.open(".", OPEN_DIRECTORY, dir_fd=root)
        above = ""
        for name in path.split("/") if path else ():
            inner = join(above, name)
            try:
                if above not in self._reached:
                    self._reached[above] = self._rules_inside(fd, above, rules, RULE_FILES)
                rules = self._reached[above]
            except OSError as error:
                os.close(fd)
                self._fail(above, error)
                return
            outer = fd
            try:
                if name in _NEVER_ENTERED or not is_utf8(name) or rules.ignores(inner, True):
                    return
                fd = os.open(name, OPEN_DIRECTORY, dir_fd=outer)
            except OSError as error:
                if error.errno not in _GONE:
                    self._fail(inner, error)
                return
            finally:
                os.close(outer)
            if self._off_limits.holds(os.fstat(fd)):
                os.close(fd)
                return
            above = inner
        self._list(fd, path, rules)

    def _enter(self, level: _Level, name: str) -> None:
        path = join(level.path, name)
        try:
            if self._prefix_bytes + len(os.fsencode(path)) >= _PATH_MAX_BYTES:
                raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
            if level.fd is not None:
                fd = os.open(name, OPEN_DIRECTORY, dir_fd=level.fd)
            else:
                deepest = self._levels[_OPEN_AT_MOST - 1]
                assert deepest.fd is not None  # noqa: S101 - the first levels are open
                fd = open_below(deepest.fd, path[len(deepest.path) + 1 :])
        except OSError as error:
            # If it is gone, the next scan sees that in the signature of its parent.
            if error.errno not in _GONE:
                self._fail(path, error)
            return
        if self._off_limits.holds(os.fstat(fd)):
            os.close(fd)
            return
        self._list(fd, path, level.rules)

    def _list(self, fd: int, path: str, rules: IgnoreRules) -> None:
        """Lists an open directory. Closes it, unless a subdirectory has to be entered through it."""
        keep = False
        if self._observer:
            self._observer.enter(path, fd)
        try:
            rules, inner = self._compare(fd, path, rules)
            if inner:
                keep = len(self._levels) < _OPEN_AT_MOST
                self._levels.append(_Level(path, fd if keep else None, rules, inner))
        except OSError as error:
            self._fail(path, error)
        finally:
            if not keep:
                os.close(fd)

    def _compare(self, fd: int, path: str, rules: IgnoreRules) -> tuple[IgnoreRules, list[str]]:
        """Compares an open directory with its row. Returns its rules, and the names of the subdirectories to enter."""
        listing = list_directory(fd, self._off_limits)
        for name, error in listing.unreadable:
            self._fail(join(path, name), error)
        if listing.rule_files:
            rules = self._rules_inside(fd, path, rules, listing.rule_files)
        if self._observer:
            self._observer.learn(path, rules)
        signature, complete = listing.signature(), not listing.unreadable
        row = self._known.get(path)
        if row is not None and complete and row.signature == signature and row.rules == rules.digest:
            self._unchanged.append(path)
        else:
            row, files = self._selection.select(path, rules, listing, signature)
            trusted = complete and listing.is_older_than(self._trusted_until_ns)
            self._changed.append(ScannedDirectory(path, row, trusted, files))
        pruned = row.pruned
        return rules, [name for name in listing.directories if name not in pruned and name != ".git" and is_utf8(name)]

    def _fail(self, path: str, error: OSError) -> None:
        # A name that is not UTF-8 is escaped, so that it can be shown. Nothing can be on record under it anyway.
        self._unreadable.append(DirectoryError(encodable(path), encodable(f"cannot be listed: {error.strerror}")))

    def _rules_inside(self, fd: int, path: str, rules: IgnoreRules, rule_files: Sequence[str]) -> IgnoreRules:
        """The rules that apply in a directory; `rule_files` are the names of its regular ignore files, and `.git`.

        Raises OSError, with the name of the file, if an ignore file cannot be read. If it has been deleted or replaced
        by a link since it was listed, it counts as absent, and the next scan sees the change.
        """
        repository = f"{self._root}/{path}"
        try:
            gitignore, own = (
                read_small(name, follow=False, dir_fd=fd) if name in rule_files else None
                for name in (GITIGNORE, OWN_IGNORE)
            )
            is_inner = path and ".git" in rule_files and is_repository(repository)
            if is_inner and not self._worktrees and is_worktree_of(repository, rules.repositories):
                return rules.without(path)
            return rules.enter(path, gitignore, own, repository if is_inner else None)
        except OSError as error:
            raise OSError(error.errno, f"{error.filename}: {error.strerror}") from error
