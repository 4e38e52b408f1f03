"""Makes file names and the text of files safe for a terminal, a log or a record."""

from __future__ import annotations


def is_utf8(name: str) -> bool:
    """Whether the name (as `os.fsdecode` returns it) is valid UTF-8.

    If not, it contains lone surrogates, and cannot be on record: neither SQLite nor Chroma accepts them.
    """
    if name.isascii():
        return True
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def encodable(text: str) -> str:
    """The text with lone surrogates escaped, so that it can be encoded."""
    return text.encode("utf-8", "backslashreplace").decode()


def printable(text: str) -> str:
    """The text with control characters and lone surrogates escaped.

    So the content of a repository cannot control the terminal, or forge a line in a log.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\t" else repr(c)[1:-1] for c in text)
