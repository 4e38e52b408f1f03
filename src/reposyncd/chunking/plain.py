"""The strengths of rows based on blank lines and indentation, for text of unknown structure."""

from __future__ import annotations

from collections.abc import Sequence

from reposyncd.chunking.outline import LINE, PARAGRAPH, strength

INDENT_LIMIT = 40
"""Columns. A row that is indented further counts as indented this far."""

LINE_DEPTH = INDENT_LIMIT + 1
"""Added for a row that does not follow a blank line: it is weaker than every row that does."""

CLOSING_DEPTH = 2 * LINE_DEPTH
"""Added for a blank row, or one that closes a bracket: it belongs to what precedes it."""

_CLOSING = ("}", ")", "]")


def plain_strengths(lines: Sequence[str], first: int, end: int) -> dict[int, int]:
    """The strengths of the rows first + 1 to end - 1, as if the text began at row `first`."""
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
