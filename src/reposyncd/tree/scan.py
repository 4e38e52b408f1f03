"""The tree as it is now, against what is known of it.

A directory whose signature (a digest of the names and stats of its entries) and ignore rules are those that are known
is unchanged, and costs its listing and no more. What is known must be trusted by whoever passes it: a signature that
was taken less than two seconds after one of its time stamps proves nothing.

Every directory is opened by its name in the one that it was listed in, so that a directory that is swapped for a link
during the scan leads nowhere, at whatever depth.
"""

from __future__ import annotations

import errno
import gc
import marshal
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import xxhash

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
    Skip,
    signed64,
)
from reposyncd.text import encodable, is_utf8
from reposyncd.tree.directory import OPEN_DIRECTORY, open_below
from reposyncd.tree.gitdir import is_repository, is_worktree_of, read_small
from reposyncd.tree.ignore import GITIGNORE, NO_RULES, OWN_IGNORE, IgnoreRules
from reposyncd.tree.offlimits import OffLimits
from reposyncd.tree.secrets import secret_name

_MOST_OPEN = 64
"""Directories kept open, each the parent of the next, out of the usual 1024 descriptors of a process. What lies deeper,
which no source does, is opened from the last of them, one component after the other."""

_PATH_MAX_BYTES = 4096
"""Linux's longest path, its NUL included. Directories beyond can be reached, but by no program that names them."""

_GONE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}
"""The errors of a directory that is absent, or another thing now, since its parent was listed."""

_MARSHAL_FORMAT = 2
"""Newer formats depend on reference counts, so that equal values could have different bytes."""

_RULE_FILES = (GITIGNORE, OWN_IGNORE, ".git")

_NEVER_ENTERED = ("", ".", "..", ".git")

NOTHING = OffLimits()
"""Nothing is off limits."""

_Entry = tuple[str, int, int, int, int, int]
"""name, size, mtime_ns, ctime_ns, inode, mode"""


@dataclass(frozen=True, slots=True)
class ScannedDirectory:
    """A directory that is not what is known of it."""

    path: str
    """relative to the root, "" for it"""
    row: DirectoryRow
    trusted: bool
    """whether the row may be remembered: every time stamp in it is old enough"""
    files: tuple[tuple[str, FileStat], ...]
    """(path relative to the root, stat) of the files that may be indexed"""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A tree as it was listed.

    A known directory of the scope that is in neither `unchanged` nor `changed` is gone or ignored, unless it is one
    of `unreadable` or lies below one: of those nothing is known.
    """

    identity: RootIdentity
    unchanged: frozenset[str]
    changed: tuple[ScannedDirectory, ...]
    unreadable: tuple[FileError, ...]
    """directories that cannot be listed, and entries whose stat cannot be had"""


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
    witness: ScanObserver | None = None,
) -> Snapshot:
    """Lists the tree below `root`, an absolute path without symbolic links, as far as it is in the scope; no link is
    followed. The witness is told of every directory.

    `allowed` covers the files that may have names of secrets. `rules` are those from outside the root, and must have
    been made for this `allowed` and this `max_file_size` (bytes), on which the skips of known directories depend.
    Without `worktrees`, what is another work tree of a repository that it lies in is left out.
    `now_ns` is the wall clock. What is `off_limits` is not entered, and not counted. Raises RootMissingError if the
    root is not a directory, and RefusedRootError if it is off limits itself.
    """
    was_enabled = gc.isenabled()
    gc.disable()  # a million short-lived tuples, none of them in a cycle
    try:
        return _Scan(root, known, now_ns - RACY_NS, max_file_size, allowed, worktrees, off_limits, witness).run(
            rules, scope
        )
    finally:
        if was_enabled:
            gc.enable()


class ScanObserver(NamedTuple):
    """Who is told of each directory (by its path) while it is listed."""

    enter: Callable[[str, int], object]
    """it is open as this descriptor, and about to be listed"""
    learn: Callable[[str, IgnoreRules], object]
    """these rules are in force in it"""


class _Level(NamedTuple):
    """A listed directory whose subdirectories are still to be listed."""

    path: str
    fd: int | None
    """open on it; None below the levels that are kept open"""
    rules: IgnoreRules
    inner: list[str]
    """names of the subdirectories to enter"""


class _Scan:
    def __init__(
        self,
        root: str,
        known: Mapping[str, DirectoryRow],
        trusted_until_ns: int,
        max_file_size: int,
        allowed: IgnoreRules,
        worktrees: bool,
        off_limits: OffLimits,
        witness: ScanObserver | None,
    ) -> None:
        self._root = root
        self._witness = witness
        self._known = known
        self._trusted_until_ns = trusted_until_ns
        self._max_file_size = max_file_size
        self._allowed = allowed
        self._worktrees = worktrees
        prefix = os.path.join(root, "")
        self._prefix_bytes = len(os.fsencode(prefix))
        self._off_limits = off_limits
        self._levels: list[_Level] = []
        self._reached: dict[str, IgnoreRules] = {}
        """the rules in the directories on the way to the scope"""
        self._unchanged: list[str] = []
        self._changed: list[ScannedDirectory] = []
        self._unreadable: list[FileError] = []

    def run(self, rules: IgnoreRules, scope: Scope) -> Snapshot:
        try:
            fd = os.open(self._root, OPEN_DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            raise RootMissingError(f"{self._root} is not there, or is no directory") from None
        except OSError as error:
            raise RootMissingError(f"{self._root} cannot be listed: {error.strerror}") from error
        found = os.fstat(fd)
        if self._off_limits.holds(found):  # listed as empty, all that is on record of it would be deleted
            os.close(fd)
            raise RefusedRootError(f"{self._root} is not to be indexed; remove it with: reposyncd repo remove")
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
        """Lists what is below the directories that were listed."""
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
        """Lists a directory of the scope, unless it or one above it is ignored, or no directory."""
        fd = os.open(".", OPEN_DIRECTORY, dir_fd=root)
        above = ""
        for name in path.split("/") if path else ():
            inner = f"{above}/{name}" if above else name
            try:
                if above not in self._reached:
                    self._reached[above] = self._rules_inside(fd, above, rules, _RULE_FILES)
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
        path = f"{level.path}/{name}" if level.path else name
        try:
            if self._prefix_bytes + len(os.fsencode(path)) >= _PATH_MAX_BYTES:
                raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
            if level.fd is not None:
                fd = os.open(name, OPEN_DIRECTORY, dir_fd=level.fd)
            else:
                deepest = self._levels[_MOST_OPEN - 1]
                assert deepest.fd is not None  # noqa: S101 - the levels above the others are open
                fd = open_below(deepest.fd, path[len(deepest.path) + 1 :])
        except OSError as error:
            # Of one that is gone the signature of its parent will tell.
            if error.errno not in _GONE:
                self._fail(path, error)
            return
        if self._off_limits.holds(os.fstat(fd)):
            os.close(fd)
            return
        self._list(fd, path, level.rules)

    def _list(self, fd: int, path: str, rules: IgnoreRules) -> None:
        """Lists an open directory, and closes it if nothing in it is to be entered."""
        keep = False
        if self._witness:
            self._witness.enter(path, fd)
        try:
            rules, inner = self._compare(fd, path, rules)
            if inner:
                keep = len(self._levels) < _MOST_OPEN
                self._levels.append(_Level(path, fd if keep else None, rules, inner))
        except OSError as error:
            self._fail(path, error)
        finally:
            if not keep:
                os.close(fd)

    def _compare(self, fd: int, path: str, rules: IgnoreRules) -> tuple[IgnoreRules, list[str]]:
        """Notes what the directory is now; returns the rules in it, and its subdirectories that are to be entered."""
        entries: list[_Entry] = []
        directories: list[str] = []
        rule_files: list[str] = []
        add, complete = entries.append, True
        token = self._off_limits.token and self._off_limits.token[1]
        with os.scandir(fd) as listing:
            for entry in listing:
                name = entry.name
                if entry.is_dir(follow_symlinks=False):
                    directories.append(name)
                    continue
                try:
                    s = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    complete = False
                    self._fail(f"{path}/{name}" if path else name, error)
                    continue
                if s.st_ino == token and self._off_limits.is_token(s):
                    continue
                add((name, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino, s.st_mode))
                if name[0] == "." and name in _RULE_FILES and (stat.S_ISREG(s.st_mode) or name == ".git"):
                    rule_files.append(name)
        if ".git" in directories:
            rule_files.append(".git")
        if rule_files:
            rules = self._rules_inside(fd, path, rules, rule_files)
        if self._witness:
            self._witness.learn(path, rules)
        signature = xxhash.xxh3_128_digest(marshal.dumps((entries, directories), _MARSHAL_FORMAT))
        row = self._known.get(path)
        if row is not None and complete and row.signature == signature and row.rules == rules.digest:
            self._unchanged.append(path)
        else:
            row, files = self._classify(path, rules, entries, directories, signature)
            trusted = complete and all(max(e[2], e[3]) < self._trusted_until_ns for e in entries)
            self._changed.append(ScannedDirectory(path, row, trusted, files))
        pruned = row.pruned
        return rules, [name for name in directories if name not in pruned and name != ".git" and is_utf8(name)]

    def _fail(self, path: str, error: OSError) -> None:
        # A name that is not UTF-8 is made one that can be shown; nothing can be known of it anyway.
        self._unreadable.append(DirectoryError(encodable(path), encodable(f"cannot be listed: {error.strerror}")))

    def _rules_inside(self, fd: int, path: str, rules: IgnoreRules, rule_files: Sequence[str]) -> IgnoreRules:
        """The rules with those of the directory's own; `rule_files` are its regular ignore files, and `.git`.

        Raises OSError, which names the file, if one that holds rules cannot be read. One that was replaced by
        nothing or by a link since it was listed holds none; the next scan sees that.
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

    def _classify(
        self, path: str, rules: IgnoreRules, entries: list[_Entry], directories: list[str], signature: bytes
    ) -> tuple[DirectoryRow, tuple[tuple[str, FileStat], ...]]:
        if rules.leaves_out:
            inner = tuple(name for name in directories if name != ".git" and is_utf8(name))
            return DirectoryRow(signature, rules.digest, 0, {str(Skip.WORKTREE): 1}, inner), ()
        files: list[tuple[str, FileStat]] = []
        skipped: dict[str, int] = {}
        pruned: list[str] = []
        prefix = f"{path}/" if path else ""
        for name in directories:
            if name == ".git":
                continue
            if not is_utf8(name):
                skipped[Skip.NAME] = skipped.get(Skip.NAME, 0) + 1
            elif rules.ignores(prefix + name, True):
                skipped[Skip.IGNORED] = skipped.get(Skip.IGNORED, 0) + 1
                pruned.append(name)
        for name, size, mtime_ns, ctime_ns, inode, mode in entries:
            if name == ".git":
                continue
            reason = self._reason_to_skip(name, prefix + name, size, mode, rules)
            if reason is None:
                files.append((prefix + name, FileStat(size, signed64(mtime_ns), signed64(ctime_ns), signed64(inode))))
            else:
                skipped[reason] = skipped.get(reason, 0) + 1
        counts = {str(reason): count for reason, count in skipped.items()}
        return DirectoryRow(signature, rules.digest, len(files), counts, tuple(pruned)), tuple(files)

    def _reason_to_skip(self, name: str, path: str, size: int, mode: int, rules: IgnoreRules) -> Skip | None:
        if rules.ignores(path, False):
            return Skip.IGNORED
        if stat.S_ISLNK(mode):
            return Skip.SYMLINK
        if not stat.S_ISREG(mode):
            return Skip.SPECIAL
        if not is_utf8(name):
            return Skip.NAME
        if secret_name(path) and not self._allowed.covers(path):
            return Skip.SECRET
        if size > self._max_file_size:
            return Skip.TOO_LARGE
        return None
