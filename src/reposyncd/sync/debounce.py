"""Which parts of a tree are dirty, and when each of them is due. Pure: the time is an argument."""

from __future__ import annotations

from typing import NamedTuple

from reposyncd.model import Scope
from reposyncd.paths import with_ancestors

DIRTY_AT_MOST = 1000
"""How many parts are kept separately. If a change affects more, they are merged into larger parts. Scanning those costs
little more."""


class _Part(NamedTuple):
    """A dirty directory. The times are in seconds on the caller's clock."""

    recursive: bool
    """whether everything below the directory is dirty too"""
    first: float
    """time of the first event"""
    last: float
    """time of the last event"""

    def joined(self, other: _Part | None) -> _Part:
        if other is None:
            return self
        return _Part(self.recursive or other.recursive, min(self.first, other.first), max(self.last, other.last))


class Debounce:
    """The dirty parts of one tree.

    A part is due `settle_s` after its last event, but not later than `max_wait_s` after its first. Two properties hold:
    whatever is added is contained in what is taken later, and there are never more than `at_most` parts. All times are
    seconds on the same monotonic clock. Not thread-safe.
    """

    def __init__(self, settle_s: float, max_wait_s: float, at_most: int = DIRTY_AT_MOST) -> None:
        self._settle_s = settle_s
        self._max_wait_s = max_wait_s
        self._at_most = at_most
        self._dirty: dict[str, _Part] = {}

    def reconfigure(self, settle_s: float, max_wait_s: float) -> None:
        """Sets new times. They also apply to what is dirty already."""
        self._settle_s = settle_s
        self._max_wait_s = max_wait_s

    def __len__(self) -> int:
        return len(self._dirty)

    @property
    def is_whole(self) -> bool:
        """Whether the whole tree is dirty."""
        part = self._dirty.get("")
        return part is not None and part.recursive

    @property
    def since(self) -> float | None:
        """When the oldest change that has not been taken was noticed; None if nothing is dirty."""
        return min((part.first for part in self._dirty.values()), default=None)

    def paths(self) -> list[str]:
        """The dirty directories, sorted."""
        return sorted(self._dirty)

    def add(self, path: str, recursive: bool, now: float) -> None:
        """There was an event: marks the directory as dirty, or with `recursive` the tree at it."""
        tree = self._tree_of(path)
        if tree is not None:
            path, recursive = tree, True
        self._dirty[path] = _Part(recursive, now, now).joined(self._dirty.get(path))
        if len(self._dirty) > self._at_most:
            self._coarsen()

    def add_all(self, scope: Scope, now: float) -> None:
        """Marks everything in the scope as dirty, as if there had been events."""
        for path in scope.trees:
            self.add(path, True, now)
        for path in scope.flat:
            self.add(path, False, now)

    def due(self, stretch: float = 1.0) -> float | None:
        """When the first part is due; None if nothing is dirty. `stretch` multiplies the settle time.

        If something is dirty already, adding more never makes this earlier.
        """
        return min((self._due(part, stretch) for part in self._dirty.values()), default=None)

    def take(self, now: float, stretch: float = 1.0) -> Scope:
        """Removes and returns the parts that are due."""
        return self._take([path for path, part in self._dirty.items() if self._due(part, stretch) <= now])

    def take_all(self) -> Scope:
        """Removes and returns all parts, due or not."""
        return self._take(list(self._dirty))

    def _take(self, paths: list[str]) -> Scope:
        taken = {path: self._dirty.pop(path) for path in paths}
        trees = frozenset(path for path, part in taken.items() if part.recursive)
        return Scope(frozenset(taken) - trees, trees).without_overlaps()

    def _due(self, part: _Part, stretch: float) -> float:
        return min(part.last + self._settle_s * stretch, part.first + self._max_wait_s)

    def _tree_of(self, path: str) -> str | None:
        """The dirty tree that contains the path; None if there is none."""
        for each in with_ancestors(path):
            part = self._dirty.get(each)
            if part and part.recursive:
                return each
        return None

    def _coarsen(self) -> None:
        """Merges the deepest parts into trees further up, until at most half of `at_most` parts are left.

        So very many changes in one directory become the tree at that directory, and very many changes everywhere become
        the whole tree.
        """
        depth = max(map(_depth, self._dirty))
        while len(self._dirty) > self._at_most // 2 and depth > 0:
            depth -= 1
            coarser: dict[str, _Part] = {}
            for path, part in self._dirty.items():
                if _depth(path) > depth:
                    path, part = _cut(path, depth), part._replace(recursive=True)
                coarser[path] = part.joined(coarser.get(path))
            self._dirty = coarser


def _depth(path: str) -> int:
    return path.count("/") + 1 if path else 0


def _cut(path: str, depth: int) -> str:
    return "/".join(path.split("/")[:depth])
