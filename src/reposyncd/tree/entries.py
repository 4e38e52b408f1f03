"""One directory: the listing of its entries, and which of them may be indexed."""

from __future__ import annotations

import marshal
import os
import stat
from dataclasses import dataclass
from typing import NamedTuple

import xxhash

from reposyncd.model import DirectoryRow, FileStat, Skip, signed64
from reposyncd.text import is_utf8
from reposyncd.tree.ignore import GITIGNORE, OWN_IGNORE, IgnoreRules
from reposyncd.tree.offlimits import OffLimits
from reposyncd.tree.secret_names import secret_name

RULE_FILES = (GITIGNORE, OWN_IGNORE, ".git")
"""Names of the entries that decide what is ignored in a directory and below it."""

_MARSHAL_FORMAT = 2
"""In newer formats, the bytes depend on reference counts, so that equal values may have different bytes."""

Entry = tuple[str, int, int, int, int, int]
"""name, size, mtime_ns, ctime_ns, inode, mode"""


class Listing(NamedTuple):
    """The entries of a directory, in the order of the listing."""

    entries: list[Entry]
    """everything but directories"""
    directories: list[str]
    rule_files: list[str]
    """the names of existing `RULE_FILES`: regular files, or any `.git`"""
    unreadable: list[tuple[str, OSError]]
    """names of entries whose stat cannot be read, and why"""

    def signature(self) -> bytes:
        """A digest of all names and stats. If it is the same as before, nothing in the directory has changed."""
        return xxhash.xxh3_128_digest(marshal.dumps((self.entries, self.directories), _MARSHAL_FORMAT))

    def is_older_than(self, time_ns: int) -> bool:
        """Whether all time stamps of the entries are before this time."""
        return all(max(entry[2], entry[3]) < time_ns for entry in self.entries)


def list_directory(fd: int, off_limits: OffLimits) -> Listing:
    """Lists the directory that `fd` is open on. Raises OSError if it cannot be listed.

    The API's token is left out. An entry that disappears during the listing is left out too.
    """
    found = Listing([], [], [], [])
    add = found.entries.append
    token = off_limits.token and off_limits.token[1]
    with os.scandir(fd) as listing:
        for entry in listing:
            name = entry.name
            if entry.is_dir(follow_symlinks=False):
                found.directories.append(name)
                continue
            try:
                s = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            except OSError as error:
                found.unreadable.append((name, error))
                continue
            if s.st_ino == token and off_limits.is_token(s):
                continue
            add((name, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino, s.st_mode))
            if name[0] == "." and name in RULE_FILES and (stat.S_ISREG(s.st_mode) or name == ".git"):
                found.rule_files.append(name)
    if ".git" in found.directories:
        found.rule_files.append(".git")
    return found


@dataclass(frozen=True, slots=True)
class SelectedEntries:
    """Decides which entries may be indexed, using everything that is known without reading them."""

    max_file_size: int
    """bytes"""
    allowed: IgnoreRules
    """covers the files that are indexed even if they have names of secrets"""

    def select(
        self, path: str, rules: IgnoreRules, listing: Listing, signature: bytes
    ) -> tuple[DirectoryRow, tuple[tuple[str, FileStat], ...]]:
        """The row of the directory at `path`, in which `rules` apply, and its files that may be indexed.

        The files are (path relative to the root, stat).
        """
        if rules.leaves_out:
            inner = tuple(name for name in listing.directories if name != ".git" and is_utf8(name))
            return DirectoryRow(signature, rules.digest, 0, {str(Skip.WORKTREE): 1}, inner), ()
        files: list[tuple[str, FileStat]] = []
        skipped: dict[str, int] = {}
        pruned: list[str] = []
        prefix = f"{path}/" if path else ""
        for name in listing.directories:
            if name == ".git":
                continue
            if not is_utf8(name):
                skipped[Skip.NAME] = skipped.get(Skip.NAME, 0) + 1
            elif rules.ignores(prefix + name, True):
                skipped[Skip.IGNORED] = skipped.get(Skip.IGNORED, 0) + 1
                pruned.append(name)
        for name, size, mtime_ns, ctime_ns, inode, mode in listing.entries:
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
        if secret_name(path) and not self.allowed.covers(path):
            return Skip.SECRET
        if size > self.max_file_size:
            return Skip.TOO_LARGE
        return None
