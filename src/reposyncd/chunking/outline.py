"""What a file is made of: where it may be cut and how readily, and which definitions it holds. Rows are 0-based."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import NamedTuple

LARGE, DEFINITION, PARAGRAPH, LINE = KINDS = range(4)
"""Kinds of row: something large, or a section of prose, begins or has just ended here; a definition begins here; a
blank line stands before it; none of these."""


def strength(depth: int, kind: int) -> int:
    """How readily a file is cut before a row: the lower, the more readily. Depth counts first, then kind.

    `depth` is how many levels of syntax, headings or indentation are around the row. A number and no object: a
    file may have half a million rows.
    """
    return depth * len(KINDS) + kind


def kind_of(strength: int) -> int:
    """The kind that went into a strength."""
    return strength % len(KINDS)


class Scope(NamedTuple):
    """A named definition."""

    first: int
    """row of its first leading comment or attribute"""
    last: int
    """row of its last line"""
    name: str
    parent: int
    """index of the scope around it, -1 at the top"""


@dataclass(frozen=True, slots=True)
class Outline:
    """What the syntax of a file says. Empty for a file of unknown structure."""

    strengths: dict[int, int] = field(default_factory=dict)
    """row -> strength; a row that has none is only cut at when nothing else helps"""
    scopes: tuple[Scope, ...] = ()
    """an outer scope before its inner ones; scopes of one parent are in order and do not overlap"""
    leads: dict[int, int] = field(default_factory=dict)
    """first row -> row after the last, of comments and attributes that lead something"""


class Symbols:
    """Names of row ranges."""

    def __init__(self, outline: Outline) -> None:
        self._leads = outline.leads
        self._inner: dict[int, tuple[list[int], list[int]]] = {}
        self._scopes = outline.scopes
        for index, scope in enumerate(outline.scopes):
            firsts, indices = self._inner.setdefault(scope.parent, ([], []))
            firsts.append(scope.first)
            indices.append(index)

    def name(self, first: int, end: int, lines: list[str]) -> str:
        """Qualified name of the innermost definition around what rows [first, end) hold; "" when there is none.

        Blank lines, leading comments and attributes, and lines that only close a bracket or a block around the
        chunk do not count as held.
        """
        if not self._scopes:
            return ""
        while first < end - 1 and (first in self._leads or not lines[first].strip()):
            first = min(self._leads.get(first, first + 1), end - 1)
        while end - 1 > first and _closes(lines[end - 1]):
            end -= 1
        names = []
        scope = -1
        while scope in self._inner:
            firsts, indices = self._inner[scope]
            at = bisect_right(firsts, first) - 1
            if at < 0 or self._scopes[indices[at]].last < end - 1:
                break
            scope = indices[at]
            names.append(self._scopes[scope].name)
        return ".".join(names)


def _closes(line: str) -> bool:
    bare = line.strip()
    return not bare or bare == "end" or not bare.strip(")]};,")
