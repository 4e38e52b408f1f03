"""Turns a text into chunks, in three steps: outline the text, cut it, and name the pieces."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from itertools import accumulate, pairwise

from reposyncd.chunking.code import outline_code
from reposyncd.chunking.cut import LONGEST, cut_line, cut_rows
from reposyncd.chunking.grammars import GRAMMARS
from reposyncd.chunking.languages import language_of
from reposyncd.chunking.outline import Outline, Symbols
from reposyncd.chunking.plain import plain_strengths
from reposyncd.chunking.prose import PROSE, outline_prose
from reposyncd.model import Chunk

LONGEST_PARSED_LINE = 50_000
"""Characters. No real line of code is longer. Text with longer lines is minified or generated; parsing it is
useless."""


def chunk_text(path: str, text: str) -> tuple[Chunk, ...]:
    """The chunks of a file: whole lines, in order. Joined, they are `text`.

    A pure function of its arguments and of what `fingerprint` names. `path` is only used to recognise the language. No
    chunk is empty, and none is longer than `cut.LONGEST` characters. Only "\\n" ends a line. A line longer than
    `LONGEST` is split, and all its pieces have its line number. With some texts, a grammar raises, crashes or stalls.

    Boundaries are local: whether a line begins a chunk depends on the lines around it, and not on what is further away.
    So an edit leaves the other chunks of the file as they were.
    """
    return _chunks(path, text, _outline)


def chunk_plainly(path: str, text: str) -> tuple[Chunk, ...]:
    """Like `chunk_text`, but without a parser: uses only blank lines and indentation."""
    return _chunks(path, text, lambda language, text, lines, starts: _plain(lines))


def _chunks(path: str, text: str, outline_of: Callable[[str, str, list[str], list[int]], Outline]) -> tuple[Chunk, ...]:
    language = language_of(path, text)
    lines = list(StringIO(text, newline="\n"))
    starts = list(accumulate(map(len, lines), initial=0))
    outline = outline_of(language, text, lines, starts)
    symbols = Symbols(outline)
    chunks = []
    for first, end in pairwise(cut_rows(lines, starts, outline.strengths)):
        piece = text[starts[first] : starts[end]]
        symbol = symbols.name(first, end, lines)
        if len(piece) <= LONGEST:
            chunks.append(Chunk(piece, first + 1, end, symbol, language))
        else:
            chunks += [Chunk(part, end, end, symbol, language) for part in cut_line(piece)]
    return tuple(chunks)


def _outline(language: str, text: str, lines: list[str], starts: list[int]) -> Outline:
    if language in PROSE:
        return outline_prose(language, lines)
    if language in GRAMMARS and lines and max(map(len, lines)) <= LONGEST_PARSED_LINE:
        outline = outline_code(language, text.encode("utf-8", "replace"), lines, starts, LONGEST)
        if outline is not None:
            return outline
    return _plain(lines)


def _plain(lines: list[str]) -> Outline:
    return Outline(plain_strengths(lines, 0, len(lines)))
