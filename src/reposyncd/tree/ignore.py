"""Decides which paths are ignored: by exactly git's rules, and additionally by our own.

The sources of rules, from the weakest to the strongest, are the user's global excludes file; `.git/info/exclude`; the
`.gitignore` and `.reposyncdignore` of each directory, from the top of the work tree downwards; and the configured
excludes. The strongest file that has a matching pattern decides, and in that file the last matching pattern. An ignored
directory is not entered, so no rule can include anything in it again. If the root is not the top of its work tree, the
`.gitignore` files above it count too. In a repository inside the tree (a submodule, a clone), its own git rules count,
and those from outside of it do not. Our own rules count everywhere.

Three things differ from git. A file that matches a rule is ignored even if git tracks it, since git's index is not
read. A root itself is never ignored, since somebody has named it. And core.ignoreCase has no effect.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import xxhash

from reposyncd.errors import UnreadableError
from reposyncd.tree.gitdir import exclude_contents, read_small, repository_of, work_tree_top
from reposyncd.tree.regex import byte_options
from reposyncd.tree.wildmatch import DIRECTORY_MARK, Pattern, parse

if TYPE_CHECKING:
    import re2

GITIGNORE = ".gitignore"
OWN_IGNORE = ".reposyncdignore"

_SET_BYTES = 256 << 10
"""Total length of the regular expressions in one set: some thousand ordinary patterns. With so few, compiling a set
never fails for lack of memory. Longer ignore files become several sets."""

_Set = tuple["re2.Set", tuple[bool, ...]]
"""patterns, and for each of them whether it ignores a path (or includes it again)"""


class _Source:
    """One ignore file. It is compiled when it is first needed."""

    __slots__ = ("_content", "_sets", "skip")

    def __init__(self, base: str, content: bytes) -> None:
        self.skip = len(os.fsencode(base))
        """length in bytes of `base`, the directory that the patterns are relative to, as a prefix: "" or "a/b/" """
        self._content = content
        self._sets: tuple[_Set, ...] | None = None

    def decides(self, path: bytes) -> bool | None:
        """Whether the path is ignored; None if no pattern matches. The path is relative to `base`. The path of a
        directory ends in DIRECTORY_MARK."""
        sets = self._sets
        if sets is None:
            sets = self._sets = self._compile()
        for patterns, ignores in sets:
            matches: list[int] | None = patterns.Match(path)
            if matches:
                return ignores[max(matches)]
        return None

    def drop_compiled(self) -> None:
        """Frees the compiled patterns. The next decision compiles them again. Thread-safe."""
        self._sets = None

    def _compile(self) -> tuple[_Set, ...]:
        """The compiled sets of patterns, strongest first."""
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

    options = byte_options()  # git compares bytes too
    options.dot_nl = True
    options.never_capture = True
    options.log_errors = False
    patterns = re2.Set.FullMatchSet(options)
    for pattern in group:
        patterns.Add(pattern.regex)
    patterns.Compile()
    return patterns, tuple(not pattern.negated for pattern in group)


@dataclass(frozen=True, slots=True)
class IgnoreRules:
    """The rules that apply in one directory.

    Whether a path is ignored is a function of the path, of whether it is a directory, and of `digest`.
    """

    digest: bytes
    """16 bytes; depends on every rule that applies here, and on where each rule comes from"""
    _configured: tuple[_Source, ...]
    _own: tuple[_Source, ...]
    _git: tuple[_Source, ...]
    """of each kind, the sources that are not empty, strongest first"""
    _prefix: str
    """where the root is in its work tree, as a prefix of paths: "" or "a/b/" """
    _environ: Mapping[str, str]
    repositories: frozenset[str] = frozenset()
    """the repositories whose work trees contain the directory, named as by `gitdir.repository_of`"""
    leaves_out: bool = False
    """whether the directory is left out with everything in it"""

    @staticmethod
    def for_root(root: str, excludes: Sequence[str], environ: Mapping[str, str], salt: str = "") -> IgnoreRules:
        """The rules from outside the root, which is an absolute real path. Every digest depends on `salt`.

        Raises UnreadableError if a file with rules exists and cannot be read, because it is then unknown what is
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
        """Rules with these patterns alone."""
        content = "\n".join(patterns).encode("utf-8", "surrogateescape")
        return IgnoreRules(xxhash.xxh3_128_digest(content), _sources(("", content)), (), (), "", {})

    def enter(
        self, path: str, gitignore: bytes | None, own: bytes | None, repository: str | None = None
    ) -> IgnoreRules:
        """The rules inside the directory `path` (relative to the root).

        `gitignore` and `own` are the contents of its ignore files. `repository` is the absolute path of the directory
        if it is a repository inside the root.
        """
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
        """The rules inside the directory `path` (relative to the root) if it is left out with everything in it."""
        return replace(
            self,
            digest=xxhash.xxh3_128_digest(self.digest + repr((path, "left out")).encode()),
            _configured=_sources((self._prefix + path + "/", b"*")) + self._configured,
            leaves_out=True,
        )

    def drop_compiled(self) -> None:
        """Frees the compiled patterns, about a hundred kilobytes for each ignore file. Decisions do not change: the
        next one compiles what it needs. Thread-safe."""
        for source in (*self._configured, *self._own, *self._git):
            source.drop_compiled()

    def covers(self, path: str) -> bool:
        """Whether the file at the path (relative to the root), or a directory that contains it, is ignored."""
        if not (self._configured or self._own or self._git):
            return False
        names = path.split("/")
        return self.ignores(path, False) or any(
            self.ignores("/".join(names[:depth]), True) for depth in range(1, len(names))
        )

    def ignores(self, path: str, is_directory: bool) -> bool:
        """Whether the path (relative to the root) is ignored. The directory that contains it must not be ignored."""
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
    """The sources, strongest first, of (base, content), weakest first. Empty contents are left out."""
    return tuple(_Source(base, content) for base, content in reversed(contents) if content.strip())


def _directories_above(prefix: str) -> list[str]:
    """The directories above the one with this prefix, from the top, as prefixes: "" and "a/" for "a/b/"."""
    names = prefix.split("/")[:-1]
    return ["".join(name + "/" for name in names[:depth]) for depth in range(len(names))]


NO_RULES = IgnoreRules.for_patterns(())
"""Rules that ignore nothing."""
