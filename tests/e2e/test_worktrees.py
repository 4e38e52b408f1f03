"""Other work trees of a repository, inside of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from reposyncd.app import operations
from reposyncd.errors import OverlapError
from tests.gits import commit, git
from tests.support import Lab, memory_index, write

MAIN = {"a.py", "src/b.py"}


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    lab = Lab(tmp_path / "tree", tmp_path / "state")
    lab.write({"a.py": "one = 1\n", "src/b.py": "two = 2\n"})
    commit(lab.root)
    return lab


def test_a_worktree_in_its_own_repository_is_no_second_copy(lab: Lab) -> None:
    git(lab.root, "worktree", "add", "-q", "trees/x")
    assert lab.sync().files.skipped == {"worktree": 1}
    assert lab.paths() == MAIN
    lab.write({"trees/x/src/b.py": "two = 22\n", "trees/x/new.py": "", "trees/beside.py": "three = 3\n"})
    assert lab.sync().files.skipped == {"worktree": 1}
    assert lab.paths() == {*MAIN, "trees/beside.py"}
    lab.assert_equals_an_index_built_from_scratch()


def test_a_worktree_leaves_the_index_when_it_becomes_one_and_comes_in_when_it_is_none(lab: Lab) -> None:
    lab.write({"x/a.py": "one = 1\n", "x/src/b.py": "two = 2\n"})
    lab.sync()
    assert lab.paths() == {*MAIN, "x/a.py", "x/src/b.py"}
    shutil.rmtree(lab.root / "x")
    git(lab.root, "worktree", "add", "-q", "x")
    became = lab.sync()
    assert (became.files.deleted, became.chunks.embedded) == (2, 0)
    assert lab.paths() == MAIN
    (lab.root / "x" / ".git").unlink()
    assert lab.sync().files.new == 2
    assert lab.paths() == {*MAIN, "x/a.py", "x/src/b.py"}
    lab.assert_equals_an_index_built_from_scratch()


def test_worktrees_are_indexed_where_that_is_configured(lab: Lab) -> None:
    git(lab.root, "worktree", "add", "-q", "x")
    lab.sync()
    lab.variables["REPOSYNCD_INDEX__WORKTREES"] = "true"
    assert lab.sync().files.new == 2
    assert lab.paths() == {*MAIN, "x/a.py", "x/src/b.py"}
    lab.variables.clear()
    assert lab.sync().files.deleted == 2
    assert lab.paths() == MAIN
    lab.assert_equals_an_index_built_from_scratch()


def test_a_worktree_that_is_the_root_is_indexed_and_the_one_in_it_is_not(lab: Lab, tmp_path: Path) -> None:
    git(lab.root, "worktree", "add", "-q", "trees/x")
    git(lab.root / "trees/x", "worktree", "add", "-q", str(lab.root / "trees/x/y"))
    inner = Lab(lab.root / "trees/x", tmp_path / "other")
    assert inner.sync().files.skipped == {"worktree": 1}
    assert inner.paths() == MAIN
    below = Lab(lab.root / "trees/x/src", tmp_path / "third")
    below.sync()
    assert below.paths() == {"b.py"}


def test_submodules_and_clones_are_indexed_and_their_own_worktrees_are_not(lab: Lab, tmp_path: Path) -> None:
    write(tmp_path / "module", {"m.py": "m = 1\n"})
    commit(tmp_path / "module")
    git(lab.root, "submodule", "add", "-q", str(tmp_path / "module"), "sub")
    git(lab.root, "clone", "-q", str(tmp_path / "module"), "clone")
    git(lab.root / "clone", "worktree", "add", "-q", "second")
    git(lab.root / "sub", "worktree", "add", "-q", "second")
    git(lab.root / "clone", "worktree", "add", "-q", str(lab.root / "of_the_clone"))
    lab.sync()
    assert lab.paths() == {*MAIN, ".gitmodules", "sub/m.py", "clone/m.py", "of_the_clone/m.py"}


def test_the_worktrees_of_a_bare_repository_are_no_copies_of_anything(tmp_path: Path) -> None:
    write(tmp_path / "origin", {"a.py": "one = 1\n"})
    commit(tmp_path / "origin")
    (tmp_path / "tree").mkdir()
    git(tmp_path / "tree", "clone", "-q", "--bare", str(tmp_path / "origin"), ".bare")
    write(tmp_path / "tree", {".git": "gitdir: ./.bare\n", ".gitignore": ".bare\n"})
    git(tmp_path / "tree", "worktree", "add", "-q", "one")
    git(tmp_path / "tree/one", "worktree", "add", "-q", "two")
    lab = Lab(tmp_path / "tree", tmp_path / "state")
    lab.sync()
    assert lab.paths() == {".gitignore", "one/a.py"}
    git(tmp_path / "tree/one", "sparse-checkout", "set", "--no-cone", "/*")  # which moves core.bare to another file
    assert (tmp_path / "tree/.bare/config.worktree").exists()
    lab.sync()
    assert lab.paths() == {".gitignore", "one/a.py"}


def test_a_worktree_that_is_left_out_can_be_indexed_on_its_own(lab: Lab) -> None:
    git(lab.root, "worktree", "add", "-q", "x")
    lab.write({"y/c.py": "three = 3\n"})
    lab.sync()
    with lab.workspace() as workspace:
        assert operations.sync(workspace, str(lab.root / "x"), "branch").files.new == 2
        with pytest.raises(OverlapError):
            operations.sync(workspace, str(lab.root / "y"), "part")


def test_what_a_worktree_says_of_itself_must_be_so(lab: Lab) -> None:
    lab.write({"x/a.py": "one = 1\n", "x/.git": f"gitdir: {lab.root}/.git/worktrees/nothing\n"})
    lab.write({"y/a.py": "one = 1\n", "y/.git": "gitdir: /nonexistent\n"})
    lab.index = memory_index()
    lab.sync()
    assert lab.paths() == {*MAIN, "x/a.py", "y/a.py"}
