"""Which paths are ignored: exactly git's rules, and our own on top of them.

Weakest to strongest: the user's global excludes file, `.git/info/exclude`, then from the top of the work tree
downwards each directory's `.gitignore` and `.reposyncdignore`, then the configured excludes. The last pattern
that matches in the strongest file that has a match decides. A directory that is ignored is not entered, so that
nothing in it can be taken back. Above the root, `.gitignore` files up to the top of its work tree count. In a
repository within the tree (a submodule, a clone) its own git rules count and those outside of it do not; ours do.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import xxhash

from reposyncd.tree.gitdir import exclude_contents, read_small, work_tree_top

if TYPE_CHECKING:
    import re2

GITIGNORE = ".gitignore"
OWN_IGNORE = ".reposyncdignore"

_RE2_MEMORY_BYTES = 256 << 20
"""What re2 may use for one ignore file: some ten thousand patterns."""


class _Source:
    """One ignore file, compiled when a decision first needs it."""

    __slots__ = ("_compiled", "_content", "base")

    def __init__(self, base: str, content: bytes) -> None:
        self.base = base
        """the directory that its patterns are relative to, as a prefix of paths: "" or "a/b/" """
        self._content = content
        self._compiled: tuple[re2.Set, list[bool]] | None = None

    def decides(self, path: bytes) -> bool | None:
        """Whether the path (below base, relative to it, `/` at the end of a directory's) is ignored; None: no word."""
        if self._compiled is None:
            self._compiled = self._compile()
        patterns, ignored = self._compiled
        if not ignored:
            return None
        matches = patterns.Match(path)
        return ignored[max(matches)] if matches else None

    def _compile(self) -> tuple[re2.Set, list[bool]]:
        import re2

        from reposyncd.tree.wildmatch import parse

        options = re2.Options()
        options.encoding = re2.Options.Encoding.LATIN1  # bytes, as in git
        options.dot_nl = True
        options.never_capture = True
        options.log_errors = False
        options.max_mem = _RE2_MEMORY_BYTES
        patterns = re2.Set.FullMatchSet(options)
        ignored = []
        for pattern in parse(self._content):
            patterns.Add(pattern.regex)
            ignored.append(not pattern.negated)
        if ignored:
            patterns.Compile()
        return patterns, ignored


@dataclass(frozen=True, slots=True)
class IgnoreRules:
    """The rules in force in one directory.

    Whether a path is ignored is a function of the path, of whether it is a directory, and of `digest`.
    """

    digest: bytes
    """16 bytes, of every rule in force here and where it stands"""
    _git: tuple[_Source, ...]
    _own: tuple[_Source, ...]
    _prefix: str
    """what paths relative to the root are relative to, as a prefix: where the root is in its work tree"""
    _environ: Mapping[str, str]

    @staticmethod
    def for_root(root: str, excludes: Sequence[str], environ: Mapping[str, str], salt: str = "") -> IgnoreRules:
        """The rules from outside the root. `root` is absolute and real; `salt` goes into every digest."""
        top = work_tree_top(root)
        prefix = "" if top in (None, root) else os.path.relpath(root, top) + "/"
        git = [_Source("", content) for content in exclude_contents(top, environ)]
        above = os.path.dirname(prefix.rstrip("/"))
        if prefix and top:
            steps = above.split("/") if above else []
            for depth in range(len(steps) + 1):
                base = "".join(step + "/" for step in steps[:depth])
                git.append(_Source(base, read_small(os.path.join(top, base, GITIGNORE)) or b""))
        configured = "\n".join(excludes).encode("utf-8", "surrogateescape")
        own = (_Source(prefix, configured),)
        hasher = xxhash.xxh3_128(repr((salt, prefix, configured)).encode())
        for source in git:
            hasher.update(repr((source.base, source._content)).encode("utf-8", "surrogateescape"))
        return IgnoreRules(hasher.digest(), tuple(git), own, prefix, environ)

    def enter(
        self, path: str, gitignore: bytes | None, own: bytes | None, repository: str | None = None
    ) -> IgnoreRules:
        """The rules inside the directory `path` (relative to the root, "" for it), given the contents of its ignore
        files; `repository` is its absolute path if it has a `.git` of its own, and is not the root."""
        if gitignore is None and own is None and repository is None:
            return self
        base = self._prefix + path + "/" if path else self._prefix
        git, ours = self._git, self._own
        outside: list[bytes] = []
        if repository is not None:
            outside = exclude_contents(repository, self._environ)
            git = tuple(_Source(base, content) for content in outside)
        if gitignore is not None:
            git = (*git, _Source(base, gitignore))
        if own is not None:
            # The configured excludes stay the strongest.
            ours = (*ours[:-1], _Source(base, own), ours[-1])
        digest = xxhash.xxh3_128_digest(
            self.digest
            + repr((path, gitignore, own, repository is not None, outside)).encode("utf-8", "surrogateescape")
        )
        return IgnoreRules(digest, git, ours, self._prefix, self._environ)

    def ignores(self, path: str, is_directory: bool) -> bool:
        """Whether the path (relative to the root; its directory is not ignored) is ignored."""
        full = self._prefix + path + "/" if is_directory else self._prefix + path
        for source in reversed(self._own):
            verdict = source.decides(os.fsencode(full[len(source.base) :]))
            if verdict is not None:
                return verdict
        for source in reversed(self._git):
            verdict = source.decides(os.fsencode(full[len(source.base) :]))
            if verdict is not None:
                return verdict
        return False
