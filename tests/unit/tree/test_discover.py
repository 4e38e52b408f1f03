"""Which work trees are found below a directory."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from reposyncd.tree import discover as module
from reposyncd.tree.discover import FoundRepositories, discover
from tests.gits import commit, git


def repository(place: Path, *options: str) -> str:
    place.mkdir(parents=True)
    subprocess.run(["git", "init", "-q", *options, str(place)], check=True)
    return str(place.resolve())


def look(*roots: Path, depth: int = 3, excludes: tuple[str, ...] = (), limit: int = 100) -> FoundRepositories:
    return discover([str(root) for root in roots], depth=depth, excludes=excludes, limit=limit)


def test_repositories_are_found_down_to_the_depth(tmp_path: Path) -> None:
    top = repository(tmp_path / "a")
    deep = repository(tmp_path / "x" / "y" / "b")
    repository(tmp_path / "x" / "y" / "z" / "too-deep")
    assert look(tmp_path).found == (top, deep)
    assert look(tmp_path, depth=1).found == (top,)
    assert look(tmp_path, depth=0).found == ()
    assert look(tmp_path / "a", depth=0).found == (top,)


def test_what_is_inside_of_a_repository_is_part_of_it(tmp_path: Path) -> None:
    outer = repository(tmp_path / "outer")
    repository(tmp_path / "outer" / "inner")
    assert look(tmp_path).found == (outer,)


def test_a_work_tree_of_another_repository_is_found_and_a_bare_one_is_not(tmp_path: Path) -> None:
    main = repository(tmp_path / "main")
    git = ["git", "-C", main, "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    subprocess.run([*git, "worktree", "add", "-q", str(tmp_path / "tree")], check=True)
    repository(tmp_path / "bare", "--bare")
    assert look(tmp_path).found == (main, str((tmp_path / "tree").resolve()))


def test_hidden_excluded_and_linked_directories_are_not_entered(tmp_path: Path) -> None:
    wanted = repository(tmp_path / "src" / "wanted")
    repository(tmp_path / "src" / ".cache" / "hidden")
    repository(tmp_path / "src" / "vendor" / "excluded")
    outside = repository(tmp_path / "outside")
    (tmp_path / "src" / "link").symlink_to(outside)
    assert look(tmp_path / "src", excludes=("vendor/",)).found == (wanted,)


def test_there_are_no_more_than_the_limit_and_it_says_so(tmp_path: Path) -> None:
    for name in "dcba":
        repository(tmp_path / name)
    assert look(tmp_path, limit=4) == (tuple(str((tmp_path / name).resolve()) for name in "abcd"), False, ())
    found = look(tmp_path, limit=3)
    assert (len(found.found), found.truncated) == (3, True)


def test_a_place_with_too_many_directories_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DIRECTORIES_AT_MOST", 10)
    for number in range(20):
        (tmp_path / f"d{number}").mkdir()
    assert look(tmp_path).truncated


def test_a_root_that_is_not_there_is_named(tmp_path: Path) -> None:
    wanted = repository(tmp_path / "src" / "wanted")
    found = look(tmp_path / "nowhere", tmp_path / "src")
    assert found.found == (wanted,)
    [problem] = found.unreadable
    assert problem.path == str(tmp_path / "nowhere")
    assert problem.error == "No such file or directory"


def test_a_worktree_inside_of_its_repository_is_not_found(tmp_path: Path) -> None:
    main = repository(tmp_path / "main")
    commit(tmp_path / "main")
    git(tmp_path / "main", "worktree", "add", "-q", "trees/inner")
    assert look(tmp_path).found == (main,)
