"""Text to words: identifiers fall apart where programmers put them together. Pure; the result is remembered.

A change that may change the words of any text raises `identity._WORDS`.
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import chain

LONGEST_WORD = 64
"""Characters. A longer run of letters is a sentence in a script without spaces, or data; it is cut in pieces of
this length, so that no word costs more to hash, to tokenise or to remember."""

_PIECES_REMEMBERED = 65_536
"""Pieces of text whose words are remembered, some 15 MB. The sources of mypy have 10,000; 137 MB of Python
packages have 148,000, nearly all rare, so starting over when it is full loses little."""

_SEPARATORS = {code: " " for code in range(128) if not chr(code).isalnum()}
"""Every ASCII character that is in no word. `str.translate` and `split` cut ASCII text at them at some 100 MB/s."""

_RUNS = re.compile(r"[^\W\d_]+|[0-9]+")
_PARTS = re.compile(
    r"[A-Z]+(?![a-z])"  # HTTP of HTTPServer, and constants
    r"|[A-Z]?[a-z]+"  # Server, and parts of snake_case
    r"|[0-9]+"
)


def words_of(text: str) -> Counter[str]:
    """The words of a text, lower-cased, in order of first appearance, with how often each is in it.

    A word is a run of letters of one case pattern, or of ASCII digits, of at most `LONGEST_WORD` characters before
    lower-casing; punctuation is dropped. `parseHTTPResponse_v2` has the words parse, http, response, v, 2. Time is
    linear in the length of the text. May be called from any thread.
    """
    return Counter(chain.from_iterable(map(_remembered.__getitem__, text.translate(_SEPARATORS).split())))


class _Remembered(dict[str, tuple[str, ...]]):
    """Pieces without ASCII punctuation or white space, to their words. Each operation is atomic."""

    def __missing__(self, piece: str) -> tuple[str, ...]:
        words = _words_of_piece(piece)
        if len(piece) <= LONGEST_WORD:  # a longer one is rarely met again, and would be kept whole
            if len(self) >= _PIECES_REMEMBERED:
                self.clear()
            self[piece] = words
        return words


_remembered = _Remembered()


def _words_of_piece(piece: str) -> tuple[str, ...]:
    words: list[str] = []
    for run in [piece] if piece.isascii() else _RUNS.findall(piece):
        # The pattern knows the case of ASCII letters only, so it is shown the shape of the others.
        shape = run if run.isascii() else "".join(["A" if letter.isupper() else "a" for letter in run])
        for part in _PARTS.finditer(shape):
            start, end = part.span()
            while end - start > LONGEST_WORD:
                words.append(run[start : start + LONGEST_WORD].lower())
                start += LONGEST_WORD
            words.append(run[start:end].lower())
    return tuple(words)
