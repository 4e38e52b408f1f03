from __future__ import annotations

import time
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reposyncd.embedding.words import LONGEST_WORD, words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("parseHTTPResponse_v2", ["parse", "http", "response", "v", "2"]),
        ("HTTPServer", ["http", "server"]),
        ("MAX_RETRIES = 10", ["max", "retries", "10"]),
        ("kebab-case, dotted.name", ["kebab", "case", "dotted", "name"]),
        ("XMLHttpRequest", ["xml", "http", "request"]),
        ("__init__(self)", ["init", "self"]),
        ("utf8 sha256sum", ["utf", "8", "sha", "256", "sum"]),
        ("one\ttwo\r\nthree\x00four", ["one", "two", "three", "four"]),
        ("größe 漢字", ["größe", "漢字"]),
        ("größeÄndern ПрочитатьФайл", ["größe", "ändern", "прочитать", "файл"]),
        ("naïve—résumé “quoted”", ["naïve", "résumé", "quoted"]),
        ("+-*/ § \ud800", []),
        ("", []),
    ],
)
def test_identifiers_fall_apart_into_lower_case_words(text: str, words: list[str]) -> None:
    assert list(words_of(text)) == words


def test_words_are_counted_in_order_of_first_appearance() -> None:
    assert list(words_of("get_user(userId)").items()) == [("get", 1), ("user", 2), ("id", 1)]


def test_a_run_without_end_is_cut_in_pieces_of_which_nothing_is_lost() -> None:
    text = "漢字" * 100
    words = words_of(text)
    assert "".join(words.elements()) == text
    assert max(map(len, words)) == LONGEST_WORD
    assert words_of("x" * 1_000_000) == {"x" * LONGEST_WORD: 1_000_000 // LONGEST_WORD}


@settings(deadline=None)
@given(texts=st.lists(st.text(), max_size=5))
def test_the_words_of_a_text_are_those_of_its_lines(texts: list[str]) -> None:
    assert words_of("\n".join(texts)) == sum((words_of(text) for text in texts), Counter())


@settings(deadline=None)
@given(text=st.text())
def test_remembering_changes_nothing(text: str) -> None:
    assert list(words_of(text).items()) == list(words_of(text).items())


@settings(deadline=None)
@given(text=st.text())
def test_only_letters_and_digits_come_out_and_none_is_lost(text: str) -> None:
    letters = sum(letter.isalpha() or letter in "0123456789" for letter in text)
    words = words_of(text)
    assert letters <= sum(len(word) * count for word, count in words.items())
    assert not any(word.isspace() or "_" in word for word in words)


@pytest.mark.parametrize("text", ["aB" * 200_000, "é " + "aB" * 200_000, "éA" * 200_000, "A" * 400_000 + "a"])
def test_no_text_takes_more_than_linear_time(text: str) -> None:
    started = time.process_time()
    words_of(text)
    assert time.process_time() - started < 5  # seconds; a pattern that goes back and forth takes minutes
