"""What holds of the chunks of any text, in every language."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reposyncd.chunking.chunker import chunk_text
from reposyncd.chunking.cut import LONGEST
from reposyncd.chunking.languages import _EXTENSIONS, language_of

PATHS = [f"dir/file.{extensions.split()[0]}" for extensions in _EXTENSIONS.values()] + ["file"]


def relaxed(examples: int) -> settings:
    """No example has a deadline: the machine may be busy."""
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(max_examples=examples, deadline=None, suppress_health_check=slow)


CODE = (
    "( ) { } [ ] < > \" ' ` # // /* */ -- = : ; , . | & \\ @ $ % ! ? if else def class fn func end do let in of"
    ' where <<EOF EOF """ ${ <% %> <?php ?> %w( =begin r#" $$ --- - 1 0x x _ return export impl struct'
)
SPACES = (
    "\n",
    "\n\n",
    "\n    ",
    "\n\t",
    " ",
    "\r\n",
    "\r",
    "\0",
    "\u2028",
    "\x85",
    "\x0c",
    "\ufeff",
    "é",
    "😀",
    "\ud800",
)
WORDS = (*CODE.split(), *SPACES)

soup = st.lists(st.sampled_from(WORDS), max_size=300).map("".join)
"""Fragments of many languages."""

long = st.builds(lambda part, times: part * times, st.text(min_size=1, max_size=60), st.integers(1, 200))
"""Text with long lines, or with many lines."""

texts = st.one_of(soup, soup, long, st.text(max_size=500))


@pytest.mark.parametrize("path", PATHS)
@relaxed(60)
@given(text=texts)
def test_chunks_tile_any_text_of_any_language(path: str, text: str) -> None:
    chunks = chunk_text(path, text)
    assert "".join(chunk.text for chunk in chunks) == text
    assert all(0 < len(chunk.text) <= LONGEST for chunk in chunks)
    assert {chunk.language for chunk in chunks} <= {language_of(path, text)}


@relaxed(400)
@given(path=st.sampled_from(PATHS), text=texts)
def test_line_numbers_are_right_and_lines_are_whole(path: str, text: str) -> None:
    lines = text.split("\n")
    line = 1
    for chunk in chunk_text(path, text):
        assert chunk.start_line == line
        inside = chunk.text.removesuffix("\n")
        assert chunk.end_line == line + inside.count("\n")
        if not chunk.text.endswith("\n") and chunk.end_line < len(lines):
            assert len(lines[chunk.end_line - 1]) >= LONGEST  # cut inside a line that is over the limit
        line += chunk.text.count("\n")


@relaxed(300)
@given(path=st.sampled_from(PATHS), text=texts)
def test_the_same_text_has_the_same_chunks(path: str, text: str) -> None:
    assert chunk_text(path, text) == chunk_text(path, text)


@relaxed(300)
@given(path=st.text(max_size=30), text=texts)
def test_no_path_makes_it_raise(path: str, text: str) -> None:
    assert "".join(chunk.text for chunk in chunk_text(path, text)) == text


names = st.lists(st.from_regex(r"[a-z]{3,12}", fullmatch=True), min_size=10, max_size=60, unique=True)


def program(functions: list[str], statements: list[int]) -> list[str]:
    """Lines of Python: functions of various lengths that share no line but the blank ones."""
    lines = []
    for number, name in enumerate(functions):
        lines.append(f"def {name}():\n")
        count = statements[number % len(statements)]
        lines += [f"    {name}_{index} = {name}.step({index})\n" for index in range(count)]
        lines += [f"    return {name}\n", "\n", "\n"]
    return lines


@relaxed(150)
@given(functions=names, statements=st.lists(st.integers(1, 60), min_size=1, max_size=8), data=st.data())
def test_a_line_inserted_into_a_function_leaves_all_but_a_few_chunks(
    functions: list[str], statements: list[int], data: st.DataObject
) -> None:
    lines = program(functions, statements)
    row = data.draw(st.sampled_from([row for row, line in enumerate(lines) if line.startswith("    ")]))
    old = Counter(chunk.text for chunk in chunk_text("a.py", "".join(lines)))
    lines.insert(row, "    inserted = 1\n")
    new = Counter(chunk.text for chunk in chunk_text("a.py", "".join(lines)))
    # The chunk that holds the line, and at most: the piece it was in crosses a limit and is cut in a few.
    assert (new - old).total() <= 4


@relaxed(150)
@given(functions=names, statements=st.lists(st.integers(20, 40), min_size=1, max_size=8), data=st.data())
def test_large_functions_can_be_put_in_any_order_without_a_new_chunk_inside(
    functions: list[str], statements: list[int], data: st.DataObject
) -> None:
    parts = [program([name], [statements[number % len(statements)]]) for number, name in enumerate(functions)]
    old = {chunk.text for chunk in chunk_text("a.py", "".join(map("".join, parts)))}
    shuffled = data.draw(st.permutations(parts))
    new = {chunk.text for chunk in chunk_text("a.py", "".join(map("".join, shuffled)))}
    assert new == old
