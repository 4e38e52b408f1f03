"""Where to cut: the same few rules for code, prose, plain lines and the inside of a very long line.

Every place where a cut is possible has a rank: its strength first, then a hash of the text right after it. Places
are taken in the order of rank, and each becomes a cut if the piece it stands in is still too long for its kind and
would leave neither side too short. This is the same as cutting a piece at its best place, and both halves again;
what it is not is packing from the top. A place is refused only because of better places near by, so an edit that
changes no better place changes the piece it is in and no other. A smooth preference for the middle was measured
and costs more than it gives: it moves cuts whenever a piece grows.
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
"""characters, the hard limit of a chunk: a screen of code, about what an embedding still tells apart."""


CONTEXT = 3
"""lines after a place that decide between equals: few, so that an edit reaches few; enough to tell apart functions
that begin with the same attribute."""

SYNTAX_LEAST = 200
"""characters that a cut forced by `LONGEST` leaves on each side where the outline offers a place."""

PLAIN_LEAST = 600
"""Likewise where only blank lines and indentation do: any place is as good, so the middle third is asked for."""


class Sizes(NamedTuple):
    """Characters, by kind of row (`LARGE`, `DEFINITION`, `PARAGRAPH`, `LINE`)."""

    above: tuple[int, ...]
    """a piece of at most so many is not cut before a row of that kind"""
    least: tuple[int, ...]
    """a cut leaves at least so many on each side"""


SIZES = Sizes(above=(0, 1800, 1600, 1600), least=(200, 700, 700, 700))
"""Measured on the history of real repositories (`benchmarks/chunk_churn.py`). What is large stands alone whatever is
around it, so that a new neighbour changes nothing; small things share a chunk until it is long, and so rarely split.
"""


def cut_rows(lines: Sequence[str], starts: Sequence[int], strengths: Mapping[int, int]) -> list[int]:
    """The first row of every piece, and the number of rows at the end; [0] for no lines.

    `starts[row]` is where a row starts, in characters, with one entry more than there are rows. No piece is longer
    than `LONGEST`, one that is a single long row excepted.
    """
    if not lines:
        return [0]
    cuts = [0, len(lines)]
    ranked = _ranked(strengths, lines)
    _refine(cuts, ranked, strengths, starts, SIZES)
    if _too_long(cuts, starts):
        # First whatever the outline offers, then blank lines and indentation, then any row.
        _refine(cuts, ranked, strengths, starts, _anywhere(SYNTAX_LEAST))
        for least in (PLAIN_LEAST, 0):
            for first, end in _too_long(cuts, starts):
                plain = plain_strengths(lines, first, end)
                _refine(cuts, _ranked(plain, lines), plain, starts, _anywhere(least))
    return cuts


def _too_long(cuts: Sequence[int], starts: Sequence[int]) -> list[tuple[int, int]]:
    """Pieces over the hard limit that are more than one row."""
    return [(first, end) for first, end in pairwise(cuts) if starts[end] - starts[first] > LONGEST and end - first > 1]


def _anywhere(least: int) -> Sizes:
    """Cut what is over the hard limit, at any kind of row."""
    return Sizes((LONGEST,) * len(KINDS), (least,) * len(KINDS))


def _ranked(strengths: Mapping[int, int], lines: Sequence[str]) -> list[int]:
    """Rows, the strongest first; equally strong ones by a hash of the lines they begin with."""

    def rank(row: int) -> tuple[int, int]:
        return strengths[row], _hash("".join(lines[row : row + CONTEXT]))

    return sorted(strengths, key=rank)


_MIX = 2654435761
"""2 ** 32 over the golden ratio: spreads the checksums of similar lines."""


def _hash(text: str) -> int:
    return crc32(text.encode("utf-8", "surrogatepass"), 1) * _MIX & 0xFFFFFFFF


def _refine(
    cuts: list[int], ranked: Iterable[int], strengths: Mapping[int, int], starts: Sequence[int], sizes: Sizes
) -> None:
    """Add to `cuts`, in place, the places of `ranked` that may be cut at. `starts` gives places in characters."""
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
"""Places in a line, by the group that matched: after a separator of some rank, after any letter beyond ASCII, and
before an arbitrary few letters and digits, for lines such as base64 that have no separators."""

_NO_SEPARATOR = 5
"""Rank of a place no group of `_PLACES` matched."""

LINE_CONTEXT = 16
"""characters after a place that decide between equals."""


def cut_line(line: str) -> list[str]:
    """Pieces of one line, at most `LONGEST` characters each, that concatenate to it."""
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
