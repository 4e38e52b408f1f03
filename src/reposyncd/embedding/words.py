"""Splits text into words, and identifiers where programmers join words. Pure, with a cache.

Raise `identity._WORDS` with every change that may change the words of any text.
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import chain

LONGEST_WORD = 64
"""Characters. A longer run of letters is data, or a sentence in a script without spaces. It is cut into pieces of this
length, which limits the cost of hashing, tokenising and keeping a word."""

_PIECES_REMEMBERED = 65_536
"""How many pieces of text are kept with their words, in some 15 MB. The sources of mypy have 10,000; 137 MB of Python
packages have 148,000, nearly all rare, so clearing the cache when it is full costs little."""

_SEPARATORS = {code: " " for code in range(128) if not chr(code).isalnum()}
"""All ASCII characters that no word contains. `str.translate` and `split` cut ASCII text there, at some 100 MB/s."""

_RUNS = re.compile(r"[^\W\d_]+|[0-9]+")
_PARTS = re.compile(
    r"[A-Z]+(?![a-z])"  # HTTP of HTTPServer, and constants
    r"|[A-Z]?[a-z]+"  # Server, and parts of snake_case
    r"|[0-9]+"
)


def words_of(text: str) -> Counter[str]:
    """The words of a text in lower case, in the order of their first appearance, each with its count.

    A word is a run of letters with one case pattern, or of ASCII digits, of at most `LONGEST_WORD` characters before it
    is converted to lower case. Punctuation is dropped. `parseHTTPResponse_v2` has the words parse, http, response, v,
    2. Takes time linear in the length of the text. May be called from any thread.
    """
    return Counter(chain.from_iterable(map(_remembered.__getitem__, text.translate(_SEPARATORS).split())))


class _Remembered(dict[str, tuple[str, ...]]):
    """A cache from pieces without ASCII punctuation or white space to their words. Each operation is atomic."""

    def __missing__(self, piece: str) -> tuple[str, ...]:
        words = _words_of_piece(piece)
        if len(piece) <= LONGEST_WORD:  # longer ones are rarely seen again, and need more memory
            if len(self) >= _PIECES_REMEMBERED:
                self.clear()
            self[piece] = words
        return words


_remembered = _Remembered()


def _words_of_piece(piece: str) -> tuple[str, ...]:
    words: list[str] = []
    for run in [piece] if piece.isascii() else _RUNS.findall(piece):
        # The pattern only knows the case of ASCII letters, so other letters are replaced by ASCII ones of that case.
        shape = run if run.isascii() else "".join(["A" if letter.isupper() else "a" for letter in run])
        for part in _PARTS.finditer(shape):
            start, end = part.span()
            while end - start > LONGEST_WORD:
                words.append(run[start : start + LONGEST_WORD].lower())
                start += LONGEST_WORD
            words.append(run[start:end].lower())
    return tuple(words)
