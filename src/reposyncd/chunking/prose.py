"""Makes the outline of prose (Markdown, reStructuredText, AsciiDoc): headings first, then paragraphs, then lines."""

from __future__ import annotations

import re
from collections.abc import Callable

from reposyncd.chunking.outline import LARGE, LINE, PARAGRAPH, Outline, strength

PARAGRAPH_DEPTH = 8
"""Depth of a paragraph, below every heading. Headings have level 6 at most; 0 is the title of an AsciiDoc file."""

FENCED_DEPTH = 9
"""Depth of a row inside a fenced block, which is cut less readily than a paragraph."""

_MARKDOWN_HEADING = re.compile(r" {0,3}(#{1,6})(?:[ \t\r\n]|$)")
_MARKDOWN_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)", re.DOTALL)
_MARKDOWN_UNDERLINE = re.compile(r" {0,3}(=+|-{2,})[ \t]*\r?\n?\Z")
_ASCIIDOC_HEADING = re.compile(r"(={1,6})[ \t]+\S")
_ASCIIDOC_FENCE = re.compile(r"(-{4,}|\.{4,}|={4,}|`{3,}|_{4,}|\*{4,}|\+{4,}|/{4,})[ \t]*\r?\n?\Z")
_RST_LINE = re.compile(r"([!-/:-@\[-`{-~])\1+[ \t]*\r?\n?\Z")


def outline_prose(language: str, lines: list[str]) -> Outline:
    """The outline, in which each row that is not blank has a strength. The strength of a heading depends on its level.

    Lines inside a fenced block are never headings.
    """
    sections, fenced = _READERS[language](lines)
    strengths: dict[int, int] = {}
    after_blank = True
    for row, line in enumerate(lines):
        blank = not line.strip()
        if row in sections:
            strengths[row] = strength(sections[row], LARGE)
        elif not blank:
            depth = FENCED_DEPTH if row in fenced else PARAGRAPH_DEPTH
            strengths[row] = strength(depth, PARAGRAPH if after_blank else LINE)
        after_blank = blank
    return Outline(strengths)


_Sections = tuple[dict[int, int], set[int]]
"""(row of a heading to its level, rows inside fenced blocks without their first lines)"""


def _markdown(lines: list[str]) -> _Sections:
    headings: dict[int, int] = {}
    fenced: set[int] = set()
    fence = ""
    paragraph = -1  # first row of the paragraph that this line may continue
    front = bool(lines) and lines[0].rstrip() == "---"
    for row, line in enumerate(lines):
        if front:
            fenced.add(row)
            front = row == 0 or line.rstrip() not in ("---", "...")
            continue
        mark = _MARKDOWN_FENCE.match(line)
        if fence:
            fenced.add(row)
            if mark and mark[1].startswith(fence) and not mark[2].strip():
                fence = ""
            continue
        if mark and not ("`" in mark[1] and "`" in mark[2]):
            fence = mark[1]
            paragraph = -1
        elif heading := _MARKDOWN_HEADING.match(line):
            headings[row] = len(heading[1])
            paragraph = -1
        elif paragraph >= 0 and _MARKDOWN_UNDERLINE.match(line):
            headings[paragraph] = 1 if line.lstrip()[0] == "=" else 2
            paragraph = -1
        elif not line.strip() or line.startswith(("    ", "\t")) or line.lstrip()[0] in "-*+>|<":
            paragraph = -1
        elif paragraph < 0:
            paragraph = row
    return headings, fenced


def _rst(lines: list[str]) -> _Sections:
    """Titles are underlined (and perhaps overlined) with a row of one punctuation mark, at least as long as the title.

    As the format says, the order in which the marks first appear decides the levels.
    """
    headings: dict[int, int] = {}
    styles: dict[tuple[str, bool], int] = {}
    bare = [line.rstrip() for line in lines]
    row = 0
    while row < len(lines):
        start, over = row, bool(_RST_LINE.match(lines[row]))
        title, under = row + over, row + over + 1
        row += 1
        if under >= len(lines) or not bare[title] or not _RST_LINE.match(lines[under]):
            continue
        mark = bare[under]
        if len(bare[title]) > len(mark) or _RST_LINE.match(lines[title]):
            continue
        if (over and bare[start] != mark) or (not over and lines[title][0].isspace()):
            continue
        level = styles.setdefault((mark[0], over), len(styles) + 1)
        headings[start] = min(level, PARAGRAPH_DEPTH - 1)
        row = under + 1
    return headings, set()


def _asciidoc(lines: list[str]) -> _Sections:
    headings: dict[int, int] = {}
    fenced: set[int] = set()
    fence = ""
    for row, line in enumerate(lines):
        mark = _ASCIIDOC_FENCE.match(line)
        if fence:
            fenced.add(row)
            if mark and mark[1] == fence:
                fence = ""
        elif mark:
            fence = mark[1]
        elif heading := _ASCIIDOC_HEADING.match(line):
            headings[row] = len(heading[1]) - 1
    return headings, fenced


_READERS: dict[str, Callable[[list[str]], _Sections]] = {
    "markdown": _markdown,
    "rst": _rst,
    "asciidoc": _asciidoc,
}

PROSE = frozenset(_READERS)
"""The languages that `outline_prose` knows."""
