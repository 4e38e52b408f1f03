from __future__ import annotations

import pytest

from reposyncd.chunking.languages import language_of


@pytest.mark.parametrize(
    ("path", "language"),
    [
        ("src/a.py", "python"),
        ("a/b.JSX", "javascript"),
        ("index.d.ts", "typescript"),
        ("App.tsx", "tsx"),
        ("x.h", "c"),
        ("x.hpp", "cpp"),
        ("Program.cs", "c-sharp"),
        ("README.md", "markdown"),
        ("Cargo.lock", "toml"),
        ("lib/Rakefile", "ruby"),
        (".bashrc", "bash"),
        ("Makefile", "text"),
        (".py", "text"),
        ("py", "text"),
        ("dir.py/file", "text"),
        ("", "text"),
    ],
)
def test_a_path_tells_the_language(path: str, language: str) -> None:
    assert language_of(path, "") == language


@pytest.mark.parametrize(
    ("first_line", "language"),
    [
        ("#!/bin/sh", "bash"),
        ("#!/usr/bin/python3.12 -u", "python"),
        ("#!/usr/bin/env python", "python"),
        ("#!/usr/bin/env -S A=1 node --flag\r", "javascript"),
        ("#! /usr/bin/ruby", "ruby"),
        ("#!", "text"),
        ("#!/usr/bin/env", "text"),
        ("#!/usr/bin/awk -f", "text"),
        ("# !/bin/sh", "text"),
    ],
)
def test_a_file_without_a_telling_name_is_known_by_its_interpreter(first_line: str, language: str) -> None:
    assert language_of("bin/tool", first_line + "\nrest\n") == language


def test_the_extension_wins_over_the_interpreter() -> None:
    assert language_of("a.rb", "#!/bin/sh\n") == "ruby"
