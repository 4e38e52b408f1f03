"""Which paths are ignored: exactly git's rules, and our own on top of them.

Weakest to strongest: the user's global excludes file, `.git/info/exclude`, then from the top of the work tree
downwards each directory's `.gitignore` and `.reposyncdignore`, then the configured excludes. The last pattern
that matches in the strongest file that has a match decides. A directory that is ignored is not entered, so that
nothing in it can be taken back. Above the root, `.gitignore` files up to the top of its work tree count. In a
repository within the tree (a submodule, a clone) its own git rules count and those outside of it do not; ours do.

Three things are not as in git: a file that git tracks although a rule matches it is ignored here (git's index is not
read), a root that is ignored itself is not (whoever named it wants it), and core.ignoreCase is not heeded.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import xxhash

from reposyncd.errors import UnreadableError
from reposyncd.tree.gitdir import exclude_contents, read_small, repository_of, work_tree_top
from reposyncd.tree.wildmatch import DIRECTORY_MARK, Pattern, parse

if TYPE_CHECKING:
    import re2

GITIGNORE = ".gitignore"
OWN_IGNORE = ".reposyncdignore"

_RE2_MEMORY_BYTES = 64 << 20
"""What re2 may use for one set of patterns; it forgets the states that it has built when they have come to so much."""

_SET_BYTES = 256 << 10
"""Of regular expressions in one set: some thousand ordinary patterns, and so few that a set of that memory never fails
to compile. Longer ignore files become more sets."""

_Set = tuple["re2.Set", tuple[bool, ...]]
"""patterns, and whether each ignores (or takes back)"""


class _Source:
    """One ignore file, compiled when a decision first needs it."""

    __slots__ = ("_content", "_sets", "skip")

    def __init__(self, base: str, content: bytes) -> None:
        self.skip = len(os.fsencode(base))
        """bytes of `base`, the directory that the patterns are relative to, as a prefix of paths: "" or "a/b/" """
        self._content = content
        self._sets: tuple[_Set, ...] | None = None

    def decides(self, path: bytes) -> bool | None:
        """Whether the path (relative to base, a directory's with DIRECTORY_MARK) is ignored; None: no word."""
        sets = self._sets
        if sets is None:
            sets = self._sets = self._compile()
        for patterns, ignores in sets:
            matches: list[int] | None = patterns.Match(path)
            if matches:
                return ignores[max(matches)]
        return None

    def drop_compiled(self) -> None:
        """Keeps the patterns as text only, until a decision needs them again. For any thread."""
        self._sets = None

    def _compile(self) -> tuple[_Set, ...]:
        """The sets, strongest first."""
        sets: list[_Set] = []
        group: list[Pattern] = []
        size = 0
        for pattern in parse(self._content):
            if size and size + len(pattern.regex) > _SET_BYTES:
                sets.append(_compiled(group))
                group, size = [], 0
            group.append(pattern)
            size += len(pattern.regex)
        if group:
            sets.append(_compiled(group))
        return tuple(reversed(sets))


def _compiled(group: list[Pattern]) -> _Set:
    import re2

    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1  # bytes, as in git
    options.dot_nl = True
    options.never_capture = True
    options.log_errors = False
    options.max_mem = _RE2_MEMORY_BYTES
    patterns = re2.Set.FullMatchSet(options)
    for pattern in group:
        patterns.Add(pattern.regex)
    patterns.Compile()
    return patterns, tuple(not pattern.negated for pattern in group)


@dataclass(frozen=True, slots=True)
class IgnoreRules:
    """The rules in force in one directory.

    Whether a path is ignored is a function of the path, of whether it is a directory, and of `digest`.
    """

    digest: bytes
    """16 bytes, of every rule in force here and where it stands"""
    _configured: tuple[_Source, ...]
    _own: tuple[_Source, ...]
    _git: tuple[_Source, ...]
    """of each kind those that say anything, strongest first"""
    _prefix: str
    """what paths relative to the root are relative to, as a prefix: where the root is in its work tree"""
    _environ: Mapping[str, str]
    repositories: frozenset[str] = frozenset()
    """those that the directory lies in a work tree of, as `gitdir.repository_of` names them"""
    leaves_out: bool = False
    """whether the directory is left out with everything in it"""

    @staticmethod
    def for_root(root: str, excludes: Sequence[str], environ: Mapping[str, str], salt: str = "") -> IgnoreRules:
        """The rules from outside the root. `root` is absolute and real; `salt` goes into every digest.

        Raises UnreadableError if a file that holds rules is there and cannot be read: nobody knows then what is
        ignored.
        """
        top = work_tree_top(root)
        prefix = "" if top in (None, root) else os.path.relpath(root, top) + "/"
        try:
            git = [("", content) for content in exclude_contents(top, environ)]
            if top:
                git += [
                    (base, read_small(os.path.join(top, base, GITIGNORE), follow=False) or b"")
                    for base in _directories_above(prefix)
                ]
            repositories = _repositories(top)
        except OSError as error:
            raise UnreadableError(f"the ignore rules in {error.filename} cannot be read: {error.strerror}") from error
        configured = "\n".join(excludes).encode("utf-8", "surrogateescape")
        outside = repr((salt, prefix, configured, git)).encode("utf-8", "surrogateescape")
        return IgnoreRules(
            xxhash.xxh3_128_digest(outside),
            _sources((prefix, configured)),
            (),
            _sources(*git),
            prefix,
            environ,
            repositories,
        )

    @staticmethod
    def for_patterns(patterns: Sequence[str]) -> IgnoreRules:
        """Those patterns alone."""
        content = "\n".join(patterns).encode("utf-8", "surrogateescape")
        return IgnoreRules(xxhash.xxh3_128_digest(content), _sources(("", content)), (), (), "", {})

    def enter(
        self, path: str, gitignore: bytes | None, own: bytes | None, repository: str | None = None
    ) -> IgnoreRules:
        """The rules inside the directory `path` (relative to the root, "" for it), given the contents of its ignore
        files; `repository` is its absolute path if it has a `.git` of its own, and is not the root."""
        if gitignore is None and own is None and repository is None:
            return self
        base = self._prefix + path + "/" if path else self._prefix
        around, repositories = self._git, self.repositories
        outside: list[bytes] = []
        if repository is not None:
            outside = exclude_contents(repository, self._environ)
            around = _sources(*((base, content) for content in outside))
            repositories |= _repositories(repository)
        rules = repr((path, gitignore, own, repository is not None, outside)).encode("utf-8", "surrogateescape")
        return IgnoreRules(
            xxhash.xxh3_128_digest(self.digest + rules),
            self._configured,
            _sources((base, own or b"")) + self._own,
            _sources((base, gitignore or b"")) + around,
            self._prefix,
            self._environ,
            repositories,
        )

    def without(self, path: str) -> IgnoreRules:
        """The rules inside the directory `path` (relative to the root), if everything in it is to be left out."""
        return replace(
            self,
            digest=xxhash.xxh3_128_digest(self.digest + repr((path, "left out")).encode()),
            _configured=_sources((self._prefix + path + "/", b"*")) + self._configured,
            leaves_out=True,
        )

    def drop_compiled(self) -> None:
        """Keeps what was compiled no longer: a hundred kilobytes for each ignore file. Decisions are the same, and the
        next one compiles again what it needs. For any thread."""
        for source in (*self._configured, *self._own, *self._git):
            source.drop_compiled()

    def covers(self, path: str) -> bool:
        """Whether the file at the path (relative to the root), or a directory that it is in, is ignored."""
        if not (self._configured or self._own or self._git):
            return False
        names = path.split("/")
        return self.ignores(path, False) or any(
            self.ignores("/".join(names[:depth]), True) for depth in range(1, len(names))
        )

    def ignores(self, path: str, is_directory: bool) -> bool:
        """Whether the path (relative to the root; its directory is not ignored) is ignored."""
        full = os.fsencode(self._prefix + path) + (DIRECTORY_MARK if is_directory else b"")
        for source in (*self._configured, *self._own, *self._git):
            verdict = source.decides(full[source.skip :])
            if verdict is not None:
                return verdict
        return False


def _repositories(top: str | None) -> frozenset[str]:
    repository = repository_of(top) if top else None
    return frozenset() if repository is None else frozenset({repository})


def _sources(*contents: tuple[str, bytes]) -> tuple[_Source, ...]:
    """Of (base, content), weakest first: the sources, strongest first. What has no pattern is left out."""
    return tuple(_Source(base, content) for base, content in reversed(contents) if content.strip())


def _directories_above(prefix: str) -> list[str]:
    """From the top down, as prefixes, those that the directory of this prefix is in: of "a/b/", "" and "a/"."""
    names = prefix.split("/")[:-1]
    return ["".join(name + "/" for name in names[:depth]) for depth in range(len(names))]


NO_RULES = IgnoreRules.for_patterns(())
"""Ignores nothing."""
