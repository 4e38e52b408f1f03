"""Text of files and file names, for a terminal, a log or a record."""

from __future__ import annotations


def is_utf8(name: str) -> bool:
    """Whether the name (of `os.fsdecode`) is valid UTF-8. One that is not has lone surrogates, and can be put on record
    nowhere: neither SQLite nor Chroma takes it."""
    if name.isascii():
        return True
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def encodable(text: str) -> str:
    """The text with what is no character written out, so that everybody takes it."""
    return text.encode("utf-8", "backslashreplace").decode()


def printable(text: str) -> str:
    """The text with control characters, and what is no character at all, written out: what a repository holds must not
    steer a terminal, nor forge a line of a log."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\t" else repr(c)[1:-1] for c in text)
