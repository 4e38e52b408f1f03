"""Text -> chunks. The order of things: outline the text, cut it, name the pieces."""

from __future__ import annotations

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
"""characters: no line of code is longer; minified and generated text is, and has no structure worth a parse."""


def chunk_text(path: str, text: str) -> tuple[Chunk, ...]:
    """Chunks of a file: whole lines, in order, whose texts concatenate to `text`.

    A pure function of its arguments and of what `fingerprint` names. `path` only tells the language. No chunk is
    empty, none is longer than `cut.LONGEST` characters, and no text or path makes it raise. Lines end with "\\n"
    and with nothing else; a line longer than `LONGEST` is cut inside, and its pieces share its number.

    Boundaries are local: which lines begin a chunk follows from what the lines around say, not from what is
    further away, so that an edit leaves the other chunks of the file as they were.
    """
    language = language_of(path, text)
    lines = list(StringIO(text, newline="\n"))
    starts = list(accumulate(map(len, lines), initial=0))
    outline = _outline(language, text, lines, starts)
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
    return Outline(plain_strengths(lines, 0, len(lines)))
