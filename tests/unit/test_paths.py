from __future__ import annotations

import pytest

from reposyncd.paths import contains, is_within, join, parent, with_ancestors


def test_the_ancestors_of_a_path_end_at_the_root() -> None:
    assert list(with_ancestors("a/b/c")) == ["a/b/c", "a/b", "a", ""]
    assert list(with_ancestors("")) == [""]


@pytest.mark.parametrize(
    ("path", "tops", "expected"),
    [
        ("a", {"a"}, True),
        ("a/b/c", {"a"}, True),
        ("ab", {"a"}, False),
        ("a", {"a/b"}, False),
        ("", {"a"}, False),
        ("a/b", {""}, True),
        ("", {""}, True),
        ("a", set(), False),
    ],
)
def test_a_path_is_within_itself_and_what_is_above_it(path: str, tops: set[str], expected: bool) -> None:
    assert is_within(path, tops) == expected


@pytest.mark.parametrize("path", ["a", "a/b", "a/b/c"])
def test_a_path_is_its_parent_joined_with_its_name(path: str) -> None:
    assert join(parent(path), path.rpartition("/")[2]) == path


@pytest.mark.parametrize(
    ("top", "path", "expected"),
    [("/a", "/a", True), ("/a", "/a/b", True), ("/a", "/ab", False), ("/", "/a", True), ("/a/b", "/a", False)],
)
def test_a_directory_contains_itself_and_what_is_below_it(top: str, path: str, expected: bool) -> None:
    assert contains(top, path) == expected
