"""Text of files and file names, for a terminal or a log."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text with control characters, and what is no character at all, written out: what a repository holds must not
    steer a terminal, nor forge a line of a log."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\t" else repr(c)[1:-1] for c in text)
