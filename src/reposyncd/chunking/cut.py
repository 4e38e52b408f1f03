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

from reposyncd.chunking.outline import LINE, kind_of, strength
from reposyncd.chunking.plain import plain_strengths

LONGEST = 2000
"""characters, the hard limit of a chunk: a screen of code, about what an embedding still tells apart."""


class Sizes(NamedTuple):
    """Characters, by kind of row (`DEFINITION`, `PARAGRAPH`, `LINE`)."""

    above: tuple[int, int, int]
    """a piece of at most so many is not cut before a row of that kind"""
    least: tuple[int, int, int]
    """a cut leaves at least so many on each side"""


CODE = Sizes(above=(800, 1600, 1600), least=(300, 350, 400))
"""Measured on the history of real repositories (`benchmarks/chunk_churn.py`). A definition of its own size is a
chunk of its own, so that a new neighbour changes none of the chunks around it; smaller ones share. Statements are
separated only in a definition that is long."""

TEXT = Sizes(above=(1200, 1200, 1200), least=(300, 300, 300))
"""For everything that has no definitions."""


def cut_rows(lines: Sequence[str], starts: Sequence[int], strengths: Mapping[int, int], sizes: Sizes) -> list[int]:
    """The first row of every piece, and the number of rows at the end; [0] for no lines.

    `starts[row]` is where a row starts, in characters, with one entry more than there are rows. No piece is longer
    than `LONGEST`, one that is a single long row excepted.
    """
    if not lines:
        return [0]
    cuts = [0, len(lines)]
    _refine(cuts, _ranked(strengths, lines), strengths, starts, sizes)
    # What the outline cannot cut short enough: by blank lines and indentation, then wherever a row begins.
    for last_resort in (False, True):
        for first, end in pairwise(tuple(cuts)):
            if starts[end] - starts[first] > LONGEST and end - first > 1:
                plain = plain_strengths(lines, first, end)
                least = (0, 0, 0) if last_resort else sizes.least
                _refine(cuts, _ranked(plain, lines), plain, starts, Sizes((LONGEST,) * 3, least))
    return cuts


def _ranked(strengths: Mapping[int, int], lines: Sequence[str]) -> list[int]:
    """Rows, the strongest first; equally strong ones by a hash of their line and the next."""

    def rank(row: int) -> tuple[int, int]:
        return strengths[row], _hash(lines[row] + lines[row + 1] if row + 1 < rows else lines[row])

    rows = len(lines)
    return sorted(strengths, key=rank)


def _hash(text: str) -> int:
    return crc32(text.encode("utf-8", "surrogatepass"))


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
    strengths = {found.start(): strength(found.lastindex or _NO_SEPARATOR, LINE) for found in _PLACES.finditer(line, 1)}
    ranked = sorted(strengths, key=lambda place: (strengths[place], _hash(line[place : place + LINE_CONTEXT])))
    cuts = [0, len(line)]
    starts = range(len(line) + 1)
    _refine(cuts, ranked, strengths, starts, Sizes((LONGEST,) * 3, TEXT.least))
    pieces = []
    for first, end in pairwise(cuts):
        pieces += [line[at : min(at + LONGEST, end)] for at in range(first, end, LONGEST)]
    return pieces
