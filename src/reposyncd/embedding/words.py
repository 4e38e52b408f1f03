"""Text to words: identifiers fall apart where programmers put them together."""

from __future__ import annotations

import re
from collections import Counter

VERSION = 1
"""Raise it with every change of this file that may change the words of any text."""

LONGEST_WORD = 64
"""Characters; longer runs of letters are data, not words, and are cut."""

_ASCII_WORDS = (
    r"[A-Z]+(?![a-z])"  # HTTP of HTTPServer, and constants
    r"|[A-Z]?[a-z]+"  # Server, and parts of snake_case
    r"|[0-9]+"
)
_ASCII = re.compile(_ASCII_WORDS)
_ANY = re.compile(
    r"[^\W\d_]*[^\W\d_a-zA-Z][^\W\d_]*"  # with a letter of another alphabet: no camelCase to be expected
    rf"|{_ASCII_WORDS}"
)


def words_of(text: str) -> Counter[str]:
    """The words of a text, lower-cased, with how often each is in it; punctuation is dropped.

    `parseHTTPResponse_v2` has the words parse, http, response, v, 2.
    """
    pattern = _ASCII if text.isascii() else _ANY
    return Counter([word[:LONGEST_WORD].lower() for word in pattern.findall(text)])
