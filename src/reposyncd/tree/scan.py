"""The tree as it is now, against what is known of it.

A directory whose signature (a digest of the names and stats of its entries) and ignore rules are those that are known
is unchanged, and costs its listing and no more. What is known must be trusted by whoever passes it: a signature that
was taken less than two seconds after one of its time stamps proves nothing.
"""

from __future__ import annotations

import gc
import marshal
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import xxhash

from reposyncd.errors import RootMissingError
from reposyncd.model import RACY_NS, DirectoryRow, FileError, FileStat, RootIdentity, Skip
from reposyncd.tree.gitdir import read_small_fd
from reposyncd.tree.ignore import GITIGNORE, OWN_IGNORE, IgnoreRules
from reposyncd.tree.secrets import has_secret_name

_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_MARSHAL_FORMAT = 2
"""Newer formats depend on reference counts, so that equal values could have different bytes."""

_RULE_FILES = (GITIGNORE, OWN_IGNORE, ".git")

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

    A known directory that is in neither `unchanged` nor `changed` is gone or ignored, unless it is one of
    `unreadable` or lies below one: of those nothing is known.
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
    exclude_dirs: frozenset[str] = frozenset(),
) -> Snapshot:
    """Lists the tree below `root`, an absolute path without symbolic links; no link is followed.

    `rules` are those from outside the root, and must have been made for this `max_file_size` (bytes), on which the
    skips of known directories depend. `now_ns` is the wall clock. `exclude_dirs` are absolute paths that are not
    entered. Raises RootMissingError if the root is not a directory.
    """
    was_enabled = gc.isenabled()
    gc.disable()  # a million short-lived tuples, none of them in a cycle
    try:
        return _Scan(root, known, now_ns - RACY_NS, max_file_size, exclude_dirs).run(rules)
    finally:
        if was_enabled:
            gc.enable()


class _Scan:
    def __init__(
        self,
        root: str,
        known: Mapping[str, DirectoryRow],
        trusted_until_ns: int,
        max_file_size: int,
        exclude_dirs: frozenset[str],
    ) -> None:
        self._root = root
        self._known = known
        self._trusted_until_ns = trusted_until_ns
        self._max_file_size = max_file_size
        self._exclude_dirs = exclude_dirs
        self._unchanged: list[str] = []
        self._changed: list[ScannedDirectory] = []
        self._unreadable: list[FileError] = []

    def run(self, rules: IgnoreRules) -> Snapshot:
        try:
            fd = os.open(self._root, _OPEN_DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            raise RootMissingError(f"{self._root} is not there, or is no directory") from None
        except OSError as error:
            raise RootMissingError(f"{self._root} cannot be listed: {error.strerror}") from error
        found = os.fstat(fd)
        identity = RootIdentity(found.st_dev, found.st_ino)
        stack: list[tuple[str, IgnoreRules]] = []
        self._list(fd, "", rules, stack)
        while stack:
            path, above = stack.pop()
            try:
                fd = os.open(f"{self._root}/{path}", _OPEN_DIRECTORY)
            except (FileNotFoundError, NotADirectoryError):
                continue  # gone since its parent was listed, whose signature will tell
            except OSError as error:
                self._unreadable.append(FileError(path, f"cannot be listed: {error.strerror}"))
                continue
            self._list(fd, path, above, stack)
        return Snapshot(identity, frozenset(self._unchanged), tuple(self._changed), tuple(self._unreadable))

    def _list(self, fd: int, path: str, rules: IgnoreRules, stack: list[tuple[str, IgnoreRules]]) -> None:
        entries: list[_Entry] = []
        directories: list[str] = []
        rule_files: list[str] = []
        add, complete = entries.append, True
        try:
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
                    add((name, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino, s.st_mode))
                    if name[0] == "." and name in _RULE_FILES and (stat.S_ISREG(s.st_mode) or name == ".git"):
                        rule_files.append(name)
            if ".git" in directories:
                rule_files.append(".git")
            if rule_files:
                rules = self._rules_inside(fd, path, rules, rule_files)
        except OSError as error:
            self._fail(path, error)
            return
        finally:
            os.close(fd)
        signature = xxhash.xxh3_128_digest(marshal.dumps((entries, directories), _MARSHAL_FORMAT))
        row = self._known.get(path)
        if row is not None and complete and row.signature == signature and row.rules == rules.digest:
            self._unchanged.append(path)
        else:
            row, files = self._classify(path, rules, entries, directories, signature)
            trusted = complete and all(max(e[2], e[3]) < self._trusted_until_ns for e in entries)
            self._changed.append(ScannedDirectory(path, row, trusted, files))
        pruned = row.pruned
        for name in directories:
            if name not in pruned and name != ".git":
                child = f"{path}/{name}" if path else name
                if f"{self._root}/{child}" not in self._exclude_dirs and _is_utf8(name):
                    stack.append((child, rules))

    def _fail(self, path: str, error: OSError) -> None:
        self._unreadable.append(FileError(path, f"cannot be listed: {error.strerror}"))

    def _rules_inside(self, fd: int, path: str, rules: IgnoreRules, rule_files: list[str]) -> IgnoreRules:
        """The rules with those of the directory's own; `rule_files` are its regular ignore files, and `.git`."""
        contents: dict[str, bytes | None] = {}
        for name in rule_files:
            if name != ".git":
                with suppress(FileNotFoundError):  # replaced since it was listed; the next scan sees that
                    contents[name] = read_small_fd(os.open(name, _OPEN_FILE, dir_fd=fd))
        repository = f"{self._root}/{path}" if path and ".git" in rule_files else None
        return rules.enter(path, contents.get(GITIGNORE), contents.get(OWN_IGNORE), repository)

    def _classify(
        self, path: str, rules: IgnoreRules, entries: list[_Entry], directories: list[str], signature: bytes
    ) -> tuple[DirectoryRow, tuple[tuple[str, FileStat], ...]]:
        files: list[tuple[str, FileStat]] = []
        skipped: dict[str, int] = {}
        pruned: list[str] = []
        prefix = f"{path}/" if path else ""
        for name in directories:
            if name == ".git":
                continue
            if not _is_utf8(name):
                skipped[Skip.NAME] = skipped.get(Skip.NAME, 0) + 1
            elif rules.ignores(prefix + name, True):
                skipped[Skip.IGNORED] = skipped.get(Skip.IGNORED, 0) + 1
                pruned.append(name)
        for name, size, mtime_ns, ctime_ns, inode, mode in entries:
            if name == ".git":
                continue
            reason = self._reason_to_skip(name, prefix + name, size, mode, rules)
            if reason is None:
                files.append((prefix + name, FileStat(size, mtime_ns, ctime_ns, inode)))
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
        if not _is_utf8(name):
            return Skip.NAME
        if has_secret_name(path):
            return Skip.SECRET
        if size > self._max_file_size:
            return Skip.TOO_LARGE
        return None


def _is_utf8(name: str) -> bool:
    if name.isascii():
        return True
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
