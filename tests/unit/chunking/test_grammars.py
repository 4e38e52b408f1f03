from __future__ import annotations

import pytest

from reposyncd.chunking import grammars
from reposyncd.chunking.chunker import chunk_text
from reposyncd.chunking.grammars import GRAMMARS, Grammar, parse


@pytest.mark.parametrize("language", sorted(GRAMMARS))
def test_every_grammar_is_installed_and_parses(language: str) -> None:
    assert parse(language, b"x\n") is not None


def test_a_language_without_a_grammar_has_no_tree() -> None:
    assert parse("markdown", b"# x\n") is None


def test_a_grammar_that_is_not_installed_falls_back_to_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(GRAMMARS, "python", Grammar("tree_sitter_of_nobody"))
    grammars._language.cache_clear()
    try:
        (chunk,) = chunk_text("a.py", "def f():\n    pass\n")
    finally:
        grammars._language.cache_clear()
    assert (chunk.symbol, chunk.language) == ("", "python")


def test_text_that_is_no_code_of_the_language_is_given_up_by_counting_operations() -> None:
    assert parse("rust", b'"' * 200_000) is None
