"""Which parts of a tree are dirty, and when each is due. Pure: the clock is an argument."""

from __future__ import annotations

from typing import NamedTuple

from reposyncd.model import Scope

DIRTY_AT_MOST = 1000
"""Parts that are told apart. A change that touches more is looked at in larger parts, which costs little more."""


class _Part(NamedTuple):
    """A directory that is dirty. Times are of its events, seconds on the caller's clock."""

    recursive: bool
    """with everything below it"""
    first: float
    last: float

    def joined(self, other: _Part | None) -> _Part:
        if other is None:
            return self
        return _Part(self.recursive or other.recursive, min(self.first, other.first), max(self.last, other.last))


class Debounce:
    """The dirty parts of one tree.

    A part is due `settle_s` after its last event, and at the latest `max_wait_s` after its first. Properties: whatever
    was added is in what is taken later, or in a tree above it; there are never more than `at_most` parts. Times are
    seconds on one monotonic clock. Not thread-safe.
    """

    def __init__(self, settle_s: float, max_wait_s: float, at_most: int = DIRTY_AT_MOST) -> None:
        self._settle_s = settle_s
        self._max_wait_s = max_wait_s
        self._at_most = at_most
        self._dirty: dict[str, _Part] = {}

    def reconfigure(self, settle_s: float, max_wait_s: float) -> None:
        """Other times count from now on, for what is dirty already too."""
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
        """When the oldest change that is not taken yet was noticed; None if nothing is dirty."""
        return min((part.first for part in self._dirty.values()), default=None)

    def paths(self) -> list[str]:
        """What is dirty, by name, in order."""
        return sorted(self._dirty)

    def add(self, path: str, recursive: bool, now: float) -> None:
        """There was an event: the directory (with all below it) is to be looked at."""
        tree = self._tree_of(path)
        if tree is not None:
            path, recursive = tree, True
        self._dirty[path] = _Part(recursive, now, now).joined(self._dirty.get(path))
        if len(self._dirty) > self._at_most:
            self._coarsen()

    def add_all(self, scope: Scope, now: float) -> None:
        """All of the scope is to be looked at, as if there had been events."""
        for path in scope.trees:
            self.add(path, True, now)
        for path in scope.flat:
            self.add(path, False, now)

    def due(self, stretch: float = 1.0) -> float | None:
        """When the first part is due; None if nothing is dirty. `stretch` multiplies the settle time.

        Adding never makes that earlier, but for the first part that is added.
        """
        return min((self._due(part, stretch) for part in self._dirty.values()), default=None)

    def take(self, now: float, stretch: float = 1.0) -> Scope:
        """What is due. It is not dirty any more."""
        return self._take([path for path, part in self._dirty.items() if self._due(part, stretch) <= now])

    def take_all(self) -> Scope:
        """Everything that is dirty, due or not. Nothing is dirty any more."""
        return self._take(list(self._dirty))

    def _take(self, paths: list[str]) -> Scope:
        taken = {path: self._dirty.pop(path) for path in paths}
        trees = frozenset(path for path, part in taken.items() if part.recursive)
        return Scope(frozenset(taken) - trees, trees).without_overlaps()

    def _due(self, part: _Part, stretch: float) -> float:
        return min(part.last + self._settle_s * stretch, part.first + self._max_wait_s)

    def _tree_of(self, path: str) -> str | None:
        """The dirty tree that the path is in."""
        while True:
            part = self._dirty.get(path)
            if part and part.recursive:
                return path
            if not path:
                return None
            path = path.rpartition("/")[0]

    def _coarsen(self) -> None:
        """What is deepest becomes trees further up, until half of the room is free: a storm in one directory becomes
        that directory, a storm everywhere the whole tree."""
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
