"""Strengths of rows of which only the text is known: blank lines and indentation."""

from __future__ import annotations

from collections.abc import Sequence

from reposyncd.chunking.outline import LINE, PARAGRAPH, strength

INDENT_LIMIT = 40
"""columns: what is indented further is as deep as this."""

LINE_DEPTH = INDENT_LIMIT + 1
"""A row that no blank line stands before is weaker than every row that has one."""

CLOSING_DEPTH = 2 * LINE_DEPTH
"""A blank row, or one that closes a bracket, belongs to what is before it."""

_CLOSING = ("}", ")", "]")


def plain_strengths(lines: Sequence[str], first: int, end: int) -> dict[int, int]:
    """Strengths of rows first + 1 .. end - 1, as if nothing were before row `first`."""
    strengths: dict[int, int] = {}
    after_blank = first < end and not lines[first].strip()
    for row in range(first + 1, end):
        line = lines[row]
        bare = line.lstrip()
        if not bare:
            strengths[row] = strength(CLOSING_DEPTH + INDENT_LIMIT, LINE)
            after_blank = True
            continue
        depth = min(len(line) - len(bare), INDENT_LIMIT)
        if bare.startswith(_CLOSING):
            depth += CLOSING_DEPTH
        elif not after_blank:
            depth += LINE_DEPTH
        strengths[row] = strength(depth, PARAGRAPH if after_blank else LINE)
        after_blank = False
    return strengths
