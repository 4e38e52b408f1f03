"""Text of files and file names on a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text with control characters written out: what a repository holds must not steer the terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\t" else repr(c)[1:-1] for c in text)


def ago(seconds: float) -> str:
    """A span of time in its largest unit, such as "3 min"."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
