"""The outline of a file: where it may be cut, how readily, and which definitions it contains. Rows are 0-based."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import NamedTuple

LARGE, DEFINITION, PARAGRAPH, LINE = KINDS = range(4)
"""Kinds of rows. LARGE: something large, or a section of prose, begins here or has just ended. DEFINITION: a definition
begins here. PARAGRAPH: the row follows a blank line. LINE: none of these."""


def strength(depth: int, kind: int) -> int:
    """How readily a file is cut before a row; a lower value means more readily. Depth counts first, then kind.

    `depth` is the number of levels of syntax, headings or indentation around the row. The strength is a plain number,
    since a file may have half a million rows.
    """
    return depth * len(KINDS) + kind


def kind_of(strength: int) -> int:
    """The kind that was used to compute the strength."""
    return strength % len(KINDS)


class SymbolSpan(NamedTuple):
    """The rows of a named definition."""

    first: int
    """row of its first leading comment or attribute"""
    last: int
    """row of its last line"""
    name: str
    parent: int
    """index of the span around it, -1 if there is none"""


@dataclass(frozen=True, slots=True)
class Outline:
    """The structure of a file. Empty if unknown."""

    strengths: dict[int, int] = field(default_factory=dict)
    """row to strength. The file is only cut before other rows if nothing else helps"""
    spans: tuple[SymbolSpan, ...] = ()
    """outer spans precede inner ones; spans with the same parent are in order and do not overlap"""
    leads: dict[int, int] = field(default_factory=dict)
    """first row to the row after the last, for comments and attributes that belong to what follows them"""


class Symbols:
    """Finds the names for ranges of rows."""

    def __init__(self, outline: Outline) -> None:
        self._leads = outline.leads
        self._inner: dict[int, tuple[list[int], list[int]]] = {}
        self._spans = outline.spans
        for index, span in enumerate(outline.spans):
            firsts, indices = self._inner.setdefault(span.parent, ([], []))
            firsts.append(span.first)
            indices.append(index)

    def name(self, first: int, end: int, lines: list[str]) -> str:
        """Qualified name of the innermost definition around the rows [first, end); "" if there is none.

        These do not count: blank lines, leading comments and attributes, and lines that only close a bracket or a block
        around the rows.
        """
        if not self._spans:
            return ""
        while first < end - 1 and (first in self._leads or not lines[first].strip()):
            first = min(self._leads.get(first, first + 1), end - 1)
        while end - 1 > first and _closes(lines[end - 1]):
            end -= 1
        names = []
        span = -1
        while span in self._inner:
            firsts, indices = self._inner[span]
            at = bisect_right(firsts, first) - 1
            if at < 0 or self._spans[indices[at]].last < end - 1:
                break
            span = indices[at]
            names.append(self._spans[span].name)
        return ".".join(names)


def _closes(line: str) -> bool:
    bare = line.strip()
    return not bare or bare == "end" or not bare.strip(")]};,")
