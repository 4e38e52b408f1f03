"""Text for people."""

from __future__ import annotations


def ago(seconds: float) -> str:
    """A time span in its largest unit, for example "3 min"."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
