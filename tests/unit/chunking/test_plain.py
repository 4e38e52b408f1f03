from __future__ import annotations

from reposyncd.chunking.plain import plain_strengths


def test_a_line_after_a_blank_one_is_stronger_than_a_less_indented_one() -> None:
    strengths = plain_strengths(["a\n", "b\n", "\n", "  c\n"], 0, 4)
    assert strengths[3] < strengths[1]


def test_less_indentation_is_stronger() -> None:
    strengths = plain_strengths(["a\n", "  b\n", "c\n"], 0, 3)
    assert strengths[2] < strengths[1]


def test_blank_and_closing_lines_are_the_weakest() -> None:
    strengths = plain_strengths(["a\n", "}\n", "\n", " " * 90 + "b\n"], 0, 4)
    assert strengths[3] < strengths[1] < strengths[2]


def test_the_first_row_is_no_place_to_cut() -> None:
    assert set(plain_strengths(["a\n", "b\n", "c\n"], 1, 3)) == {2}
    assert plain_strengths([], 0, 0) == {}
