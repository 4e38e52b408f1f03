"""Text to words: identifiers are split where programmers join words. Pure, with a cache.

A change that may change the words of any text raises `identity._WORDS`.
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import chain

LONGEST_WORD = 64
"""Characters. A longer run of letters is data, or a sentence in a script without spaces. It is cut into pieces of this
length, which limits what a word costs to hash, to tokenise and to keep."""

_PIECES_REMEMBERED = 65_536
"""Pieces of text whose words are remembered, some 15 MB. The sources of mypy have 10,000; 137 MB of Python
packages have 148,000, nearly all rare, so clearing the cache when it is full loses little."""

_SEPARATORS = {code: " " for code in range(128) if not chr(code).isalnum()}
"""Every ASCII character that no word contains. `str.translate` and `split` cut ASCII text there, at some 100 MB/s."""

_RUNS = re.compile(r"[^\W\d_]+|[0-9]+")
_PARTS = re.compile(
    r"[A-Z]+(?![a-z])"  # HTTP of HTTPServer, and constants
    r"|[A-Z]?[a-z]+"  # Server, and parts of snake_case
    r"|[0-9]+"
)


def words_of(text: str) -> Counter[str]:
    """The words of a text, lower-cased, in order of first appearance, each with its count.

    A word is a run of letters of one case pattern, or of ASCII digits, of at most `LONGEST_WORD` characters before
    lower-casing; punctuation is dropped. `parseHTTPResponse_v2` has the words parse, http, response, v, 2. Time is
    linear in the length of the text. May be called from any thread.
    """
    return Counter(chain.from_iterable(map(_remembered.__getitem__, text.translate(_SEPARATORS).split())))


class _Remembered(dict[str, tuple[str, ...]]):
    """A cache: pieces without ASCII punctuation or white space, to their words. Each operation is atomic."""

    def __missing__(self, piece: str) -> tuple[str, ...]:
        words = _words_of_piece(piece)
        if len(piece) <= LONGEST_WORD:  # a longer one is rarely seen again, and takes more memory
            if len(self) >= _PIECES_REMEMBERED:
                self.clear()
            self[piece] = words
        return words


_remembered = _Remembered()


def _words_of_piece(piece: str) -> tuple[str, ...]:
    words: list[str] = []
    for run in [piece] if piece.isascii() else _RUNS.findall(piece):
        # The pattern knows the case of ASCII letters only, so other letters are replaced by ones of the same case.
        shape = run if run.isascii() else "".join(["A" if letter.isupper() else "a" for letter in run])
        for part in _PARTS.finditer(shape):
            start, end = part.span()
            while end - start > LONGEST_WORD:
                words.append(run[start : start + LONGEST_WORD].lower())
                start += LONGEST_WORD
            words.append(run[start:end].lower())
    return tuple(words)
