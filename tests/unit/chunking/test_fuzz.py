"""The fuzzer runs, in a tiny size, and finds what is there to be found."""

from __future__ import annotations

import sys

import pytest
from benchmarks.fuzz_grammars import KINDS, Case, Cutter, cases, fuzz, main, text_of

from benchmarks import fuzz_grammars
from reposyncd.chunking.grammars import GRAMMARS


def test_every_language_has_texts_of_every_kind_and_the_same_ones_again() -> None:
    for case in cases(sorted(GRAMMARS), 1, "a test", 1000):
        text = text_of(case)
        assert text
        assert text == text_of(case), case


def test_it_runs_from_end_to_end(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--language", "json", "--language", "toml", "--cases", "1", "--size", "2000"]
    monkeypatch.setattr(sys, "argv", ["fuzz_grammars", *options])
    main()
    assert capsys.readouterr().out == "0 findings\n"


def test_what_stalls_is_found_and_the_next_case_is_cut_by_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz_grammars, "limit_s", lambda size: 0.0 if size > 5000 else 60.0)
    monkeypatch.setattr(fuzz_grammars, "LOOK_S", 0.001)  # a fast machine is done with it before the usual first look
    some = [Case("json", kind, "a test", size) for kind in KINDS[:2] for size in (200_000, 2000)]
    assert [(each.case.size, each.what) for each in fuzz(iter(some))] == [(200_000, "stalled")] * 2


def test_what_raises_is_told() -> None:
    cutter = Cutter()
    try:
        assert cutter.cut(Case("no language", "word", "a test", 10))[0] == "raised KeyError('no language')"
    finally:
        cutter.close()
