"""Text of files and file names on a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text with control characters written out: what a repository holds must not steer the terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\t" else repr(c)[1:-1] for c in text)
