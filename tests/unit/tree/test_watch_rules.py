"""Ignored entries cause no hints; a change of the ignore rules does."""

from __future__ import annotations

import pytest

from tests.support import write
from tests.unit.tree.listening import (
    AMPLE_S,
    Listener,
)


@pytest.mark.parametrize("name", [".gitignore", ".reposyncdignore", ".git"])
def test_a_change_of_the_rules_hints_at_the_tree_that_they_are_for(listener: Listener, name: str) -> None:
    (listener.root / "d").mkdir()
    listener.watch("", "d")
    listener.learn("d", ".*")
    write(listener.root, {f"d/{name}": "*.o"})
    assert listener.heard() == {("d", True)}


def test_a_change_of_the_rules_is_not_lost_among_other_files(listener: Listener) -> None:
    listener.watch("")
    listener.release.clear()
    write(listener.root, {"first": ""})
    assert listener.held.wait(AMPLE_S)
    write(listener.root, {"a": "", "b": "", ".gitignore": "a", "c": ""})
    listener.release.set()
    assert listener.heard() == {("", False), ("", True)}


def test_a_repository_that_is_made_hints_at_its_tree(listener: Listener) -> None:
    (listener.root / "d").mkdir()
    listener.watch("", "d")
    (listener.root / "d/.git").mkdir()
    assert listener.heard() == {("d", True)}


@pytest.mark.parametrize("path", ["", "d"])
def test_ignored_names_are_silent(listener: Listener, path: str) -> None:
    (listener.root / "d").mkdir()
    listener.watch("", "d")
    listener.learn(path, "*.o build/ .hidden")
    top = listener.root / path
    (top / "build").mkdir()
    (top / "build").chmod(0o700)
    write(top, {"a.o": "", ".hidden": "x"})
    (top / "a.o").rename(top / "b.o")
    assert listener.heard() == set()
    write(top, {"a.o": "again", "a.c": ""})
    assert listener.heard() == {(path, False)}
    (top / "build").rename(top / "kept")
    assert listener.heard() == {(path, False), (f"{path}/kept".lstrip("/"), True)}


def test_a_file_is_not_ignored_by_a_pattern_for_directories(listener: Listener) -> None:
    listener.watch("")
    listener.learn("", "build/")
    write(listener.root, {"build": ""})
    assert listener.heard() == {("", False)}


def test_rules_are_forgotten_when_a_directory_is_watched_again(listener: Listener) -> None:
    listener.watch("")
    listener.learn("", "*.o")
    listener.watch("")
    write(listener.root, {"a.o": ""})
    assert listener.heard() == {("", False)}


def test_rules_of_a_directory_that_is_not_watched_are_of_no_effect(listener: Listener) -> None:
    listener.learn("", "*.o")
    listener.watch("")
    listener.learn("d", "*.o")
    write(listener.root, {"a.o": ""})
    assert listener.heard() == {("", False)}
