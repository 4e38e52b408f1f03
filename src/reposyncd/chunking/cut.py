"""Decides where to cut, by the same few rules for code, prose, plain lines and the inside of a very long line.

Each place where a cut is possible has a rank: first its strength, then a hash of the text directly after it. Places are
tried in the order of rank. A place becomes a cut if the piece that contains it is still too long for that kind of
tried in the order of rank. A place becomes a cut if the piece that contains it is still too long for that kind of
place, and if neither side becomes too short. The result is the same as cutting a piece at its best place, and then both
parts again. It is not the same as filling chunks from the top. A place is only refused because of better places nearby,
so an edit that changes none of these changes only the piece that contains the edit. A gradual preference for the
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple
from zlib import crc32

from reposyncd.chunking.outline import KINDS, LINE, kind_of, strength
from reposyncd.chunking.plain import plain_strengths

LONGEST = 2000
"""Characters, the hard limit of a chunk: a screen of code, and about as much as one embedding can represent."""

CONTEXT = 3
"""How many lines after a place decide between places of the same strength. They are few, so that an edit affects few
places, but enough to distinguish functions that begin with the same attribute."""

SYNTAX_LEAST = 200
"""How many characters remain at least on each side of a cut that `LONGEST` requires, at a place of the outline."""

PLAIN_LEAST = 600
"""The same at places that only blank lines and indentation offer. These are all alike, so the middle third is used."""


class Sizes(NamedTuple):
    """Numbers of characters, by kind of row (`LARGE`, `DEFINITION`, `PARAGRAPH`, `LINE`)."""

    above: tuple[int, ...]
    """a piece is only cut before a row of this kind if it is longer than this"""
    least: tuple[int, ...]
    """a cut leaves at least this many characters on each side"""


SIZES = Sizes(above=(0, 1800, 1600, 1600), least=(200, 700, 700, 700))
"""Measured on the history of real repositories (`benchmarks/chunk_churn.py`). Large definitions are always separate, so
that a new neighbour does not change their chunks. Small ones share a chunk until it is long, so chunks rarely split."""


def cut_rows(lines: Sequence[str], starts: Sequence[int], strengths: Mapping[int, int]) -> list[int]:
    """The first row of each piece, followed by the number of rows; [0] if there are no lines.

    `starts[row]` is where a row starts, in characters; there is one entry more than there are rows. No piece is longer
    than `LONGEST`, except a piece that is a single long row.
    """
    if not lines:
        return [0]
    cuts = [0, len(lines)]
    ranked = _ranked(strengths, lines)
    _refine(cuts, ranked, strengths, starts, SIZES)
    if _too_long(cuts, starts):
        # First try the places of the outline, then blank lines and indentation, then any row.
        _refine(cuts, ranked, strengths, starts, _anywhere(SYNTAX_LEAST))
        for least in (PLAIN_LEAST, 0):
            for first, end in _too_long(cuts, starts):
                plain = plain_strengths(lines, first, end)
                _refine(cuts, _ranked(plain, lines), plain, starts, _anywhere(least))
    return cuts


def _too_long(cuts: Sequence[int], starts: Sequence[int]) -> list[tuple[int, int]]:
    """The pieces that exceed the hard limit and have more than one row."""
    return [(first, end) for first, end in pairwise(cuts) if starts[end] - starts[first] > LONGEST and end - first > 1]


def _anywhere(least: int) -> Sizes:
    """Sizes for cutting anything that exceeds the hard limit, at any kind of row."""
    return Sizes((LONGEST,) * len(KINDS), (least,) * len(KINDS))


def _ranked(strengths: Mapping[int, int], lines: Sequence[str]) -> list[int]:
    """The rows in the order in which they are tried: by strength, then by a hash of the lines that follow."""

    def rank(row: int) -> tuple[int, int]:
        return strengths[row], _hash("".join(lines[row : row + CONTEXT]))

    return sorted(strengths, key=rank)


_MIX = 2654435761
"""2 ** 32 divided by the golden ratio: spreads the checksums of similar lines."""


def _hash(text: str) -> int:
    return crc32(text.encode("utf-8", "surrogatepass"), 1) * _MIX & 0xFFFFFFFF


def _refine(
    cuts: list[int], ranked: Iterable[int], strengths: Mapping[int, int], starts: Sequence[int], sizes: Sizes
) -> None:
    """Adds those places of `ranked` to `cuts`, in place, that become cuts. `starts` has the places in characters."""
    for place in ranked:
        after = bisect_right(cuts, place)
        first = starts[cuts[after - 1]]
        end = starts[cuts[after]]
        kind = kind_of(strengths[place])
        if end - first > sizes.above[kind]:
            at = starts[place]
            if at - first >= sizes.least[kind] and end - at >= sizes.least[kind] and cuts[after - 1] != place:
                cuts.insert(after, place)


_PLACES = re.compile(r"(?<=([;{}\r]))|(?<=(,))|(?<=([ \t>]))|(?<=([^\0-\x7f]))|(?=[07AGMSYckqw])")
"""Places in a line; the group that matches gives the rank. They are after separators, after any letter beyond ASCII,
and before a few arbitrary letters and digits, for lines without separators, such as base64."""

_NO_SEPARATOR = 5
"""Rank of a place that no group of `_PLACES` matches."""

LINE_CONTEXT = 16
"""How many characters after a place decide between places of the same rank."""


def cut_line(line: str) -> list[str]:
    """Cuts one line into pieces of at most `LONGEST` characters. Joined, they are the line."""
    strengths = {
        found.start(): strength(found.lastindex or _NO_SEPARATOR, LINE)
        for found in _PLACES.finditer(line, 1, len(line) - 1)
    }
    ranked = sorted(strengths, key=lambda place: (strengths[place], _hash(line[place : place + LINE_CONTEXT])))
    cuts = [0, len(line)]
    starts = range(len(line) + 1)
    _refine(cuts, ranked, strengths, starts, _anywhere(PLAIN_LEAST))
    pieces = []
    for first, end in pairwise(cuts):
        pieces += [line[at : min(at + LONGEST, end)] for at in range(first, end, LONGEST)]
    return pieces
