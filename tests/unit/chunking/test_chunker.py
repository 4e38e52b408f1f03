from __future__ import annotations

import pytest

from reposyncd.chunking.chunker import chunk_text
from reposyncd.chunking.cut import LONGEST
from reposyncd.model import Chunk


def body(lines: int, indent: str = "    ") -> str:
    """Statements that no two functions share, about 40 characters each."""
    return "".join(f"{indent}value_{number} = compute({number * number}, 'x')\n" for number in range(lines))


def function(name: str, lines: int = 15, indent: str = "") -> str:
    return f"{indent}def {name}(self):\n" + body(lines, indent + "    ") + "\n"


def chunk_with(chunks: tuple[Chunk, ...], text: str) -> Chunk:
    (chunk,) = [chunk for chunk in chunks if text in chunk.text]
    return chunk


def test_no_text_has_no_chunks() -> None:
    assert chunk_text("a.py", "") == ()


def test_a_small_file_is_one_chunk() -> None:
    assert chunk_text("a.txt", "one\ntwo") == (Chunk("one\ntwo", 1, 2, "", "text"),)


def test_only_line_feeds_end_a_line() -> None:
    (chunk,) = chunk_text("a.txt", "a\r\nb\rc\u2028d\x0ce\x85f\n")
    assert (chunk.start_line, chunk.end_line) == (1, 2)


def test_a_line_over_the_limit_is_cut_inside_and_its_pieces_share_its_number() -> None:
    text = "short\n" + "word " * 2000 + "\nshort\n"
    chunks = chunk_text("a.txt", text)
    assert "".join(chunk.text for chunk in chunks) == text
    assert all(len(chunk.text) <= LONGEST for chunk in chunks)
    pieces = [chunk for chunk in chunks if "word" in chunk.text]
    assert len(pieces) > 4
    assert {(piece.start_line, piece.end_line) for piece in pieces} == {(2, 2)}


def test_definitions_of_a_good_size_are_chunks_with_their_names() -> None:
    text = "import os\n\n" + "".join(function(name) for name in ("first", "second", "third"))
    chunks = chunk_text("a.py", text)
    assert [chunk.symbol for chunk in chunks][1:] == ["second", "third"]
    assert chunk_with(chunks, "def second").text == function("second")


def test_methods_are_named_after_their_class() -> None:
    text = "class Big:\n" + "".join(function(name, indent="    ") for name in ("one", "two", "three", "four"))
    chunks = chunk_text("a.py", text)
    assert chunk_with(chunks, "def three").symbol == "Big.three"
    assert chunk_with(chunks, "class Big").symbol == "Big"


def test_a_closing_bracket_of_what_is_around_does_not_hide_the_name() -> None:
    methods = [f"    fn {name}() {{\n" + body(20, "        ") + "    }\n" for name in ("a", "b", "c")]
    chunks = chunk_text("a.rs", "impl<T> Display for Foo<T> {\n" + "\n".join(methods) + "}\n")
    assert chunk_with(chunks, "fn c").symbol == "Foo.c"


def test_small_neighbours_at_the_top_share_a_chunk_without_a_name() -> None:
    (chunk,) = chunk_text("a.py", "def f():\n    pass\n\n\ndef g():\n    pass\n")
    assert chunk.symbol == ""


def test_a_chunk_that_is_one_definition_has_its_name_whatever_comments_lead_it() -> None:
    (chunk,) = chunk_text("a.py", "\n# licence\n\n# why\ndef f():\n    pass\n\n")
    assert chunk.symbol == "f"


def test_the_parts_of_a_long_function_carry_its_name() -> None:
    chunks = chunk_text("a.py", function("long", 200))
    assert len(chunks) > 3
    assert {chunk.symbol for chunk in chunks} == {"long"}


def test_a_definition_keeps_its_comments_and_decorators() -> None:
    lead = "# why this is\n# as it is\n@decorated\n"
    chunks = chunk_text("a.py", function("first") + lead + function("second") + function("third"))
    assert chunk_with(chunks, "def second").text.startswith(lead)


@pytest.mark.parametrize("place", range(0, 40, 5))
def test_a_new_function_changes_no_other_chunk(place: int) -> None:
    functions = [function(f"name_{number}") for number in range(40)]
    old = {chunk.text for chunk in chunk_text("a.py", "".join(functions))}
    functions.insert(place, function("inserted"))
    new = {chunk.text for chunk in chunk_text("a.py", "".join(functions))}
    assert new - old == {function("inserted")}


def test_sections_of_prose_are_chunks() -> None:
    sections = [f"## Part {number}\n\n" + "Some words in a row. " * 20 + "\n\n" for number in range(5)]
    chunks = chunk_text("a.md", "".join(sections))
    assert [chunk.text for chunk in chunks] == sections


def test_text_of_one_megabyte_without_structure_is_tiled() -> None:
    for text in ("(" * 2**20, "\n" * 500_000, "{\n" * 200_000):
        chunks = chunk_text("a.py", text)
        assert "".join(chunk.text for chunk in chunks) == text


def test_nesting_deeper_than_the_stack_is_cut() -> None:
    text = "".join(" " * depth + "if a:\n" for depth in range(1400))
    assert "".join(chunk.text for chunk in chunk_text("a.py", text)) == text
