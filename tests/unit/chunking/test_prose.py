from __future__ import annotations

import pytest

from reposyncd.chunking.outline import LARGE, strength
from reposyncd.chunking.prose import outline_prose


def sections(language: str, text: str) -> dict[int, int]:
    """1-based lines that begin a section, and their levels."""
    strengths = outline_prose(language, text.splitlines(keepends=True)).strengths
    levels = {strength(level, LARGE): level for level in range(8)}
    return {row + 1: levels[value] for row, value in strengths.items() if value in levels}


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("markdown", "# a\ntext\n## b\n#no\n", {1: 1, 3: 2}),
        ("markdown", "title\nmore\n===\ntext\n\nsub\n---\n", {1: 1, 6: 2}),
        ("markdown", "text\n\n---\n\n- item\n---\n", {}),
        ("markdown", "```sh\n# no\n```\n# yes\n", {4: 1}),
        ("markdown", "````\n```\n# no\n````\n~~~\n# no\n", {}),
        ("markdown", "---\ntitle: x\n# no\n---\n# yes\n", {5: 1}),
        ("markdown", "    # no\n   # yes\r\n", {2: 1}),
        ("rst", "ab\n==\n\ncd\n--\ntext\nef\n==\n", {1: 1, 4: 2, 7: 1}),
        ("rst", "===\n a\n===\n\nb\n===\n", {1: 1, 5: 2}),
        ("rst", "text\n\n----\n\nmore\n", {}),
        ("asciidoc", "= a\n\n== b\n----\n== no\n----\n", {1: 0, 3: 1}),
    ],
)
def test_headings_are_found_with_their_level(language: str, text: str, expected: dict[int, int]) -> None:
    assert sections(language, text) == expected


def test_a_paragraph_is_stronger_than_a_line_and_a_fenced_line_weaker_than_both() -> None:
    strengths = outline_prose("markdown", ["a\n", "b\n", "\n", "```\n", "c\n", "```\n"]).strengths
    assert strengths[3] < strengths[1] < strengths[4]
    assert 2 not in strengths
