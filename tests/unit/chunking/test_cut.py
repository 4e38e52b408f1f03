from __future__ import annotations

from itertools import accumulate, pairwise

from reposyncd.chunking.cut import LONGEST, cut_line, cut_rows
from reposyncd.chunking.outline import DEFINITION, LARGE, LINE, strength


def cut(lines: list[str], strengths: dict[int, int]) -> list[int]:
    return cut_rows(lines, list(accumulate(map(len, lines), initial=0)), strengths)


def rows(count: int, length: int = 50) -> list[str]:
    return [f"line {number}".ljust(length - 1) + "\n" for number in range(count)]


def test_nothing_is_cut_of_nothing() -> None:
    assert cut([], {}) == [0]


def test_small_things_share_a_piece() -> None:
    assert cut(rows(20), {row: strength(0, DEFINITION) for row in range(20)}) == [0, 20]


def test_something_large_is_cut_off_whatever_its_size() -> None:
    assert cut(rows(20), {row: strength(0, LARGE) for row in (0, 5, 12)}) == [0, 5, 12, 20]


def test_the_shallowest_place_is_taken_first() -> None:
    strengths = {row: strength(2, DEFINITION) for row in range(60)} | {30: strength(1, LINE)}
    assert 30 in cut(rows(60), strengths)


def test_what_the_outline_leaves_too_long_is_cut_at_blank_lines() -> None:
    lines = rows(60)
    lines[28] = "\n"
    assert 29 in cut(lines, {})


def test_no_piece_of_several_rows_is_over_the_limit() -> None:
    for length in (1, 50, 700, 1500, LONGEST):
        lines = rows(3 * LONGEST // length + 5, length)
        for first, end in pairwise(cut(lines, {})):
            assert sum(map(len, lines[first:end])) <= LONGEST


def test_a_long_line_is_cut_after_its_strongest_separators() -> None:
    line = "".join(f"call {number}, {number};" for number in range(1000))
    pieces = cut_line(line)
    assert "".join(pieces) == line
    assert all(piece.endswith(";") for piece in pieces)
    assert max(map(len, pieces)) <= LONGEST


def test_an_edit_of_a_long_line_leaves_its_other_pieces() -> None:
    words = [f"{number * 7919 % 10007}," for number in range(10_000)]
    old = set(cut_line("".join(words)))
    words[5000] = "edited,"
    assert len(set(cut_line("".join(words))) - old) <= 2


def test_a_line_of_one_letter_is_cut_all_the_same() -> None:
    for letter in ("a", "A", "é", " ", "\r"):
        assert "".join(cut_line(letter * 10_001)) == letter * 10_001
        assert max(map(len, cut_line(letter * 10_001))) <= LONGEST
