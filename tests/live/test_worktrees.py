"""Worktrees that are made and removed in a repository that is being watched."""

from __future__ import annotations

from pathlib import Path

from tests.gits import commit, git
from tests.live.service import live, until

MAIN = {"a.py", "src/b.py"}


def test_a_worktree_that_appears_and_goes_away_leaves_the_index_as_it_was(tmp_path: Path) -> None:
    lab = live(tmp_path)
    lab.write({"a.py": "one = 1\n", "src/b.py": "two = 2\n"})
    commit(lab.root)
    with lab.running() as daemon:
        watched = lab.status()["watch"]["directories"]
        git(lab.root, "worktree", "add", "-q", "x")
        lab.write({"x/src/b.py": "two = 22\n", "x/deep/er/c.py": "three = 3\n"})
        lab.assert_current()
        assert lab.paths() == MAIN
        until(lambda: lab.status()["watch"]["directories"] == watched + 1, "what is in the worktree is not watched")
        (lab.root / "x" / ".git").unlink()
        lab.assert_current()
        assert lab.paths() == {*MAIN, "x/a.py", "x/src/b.py", "x/deep/er/c.py"}
        lab.write({"x/deep/er/c.py": "three = 33\n"})
        lab.assert_current()
        assert lab.text_of("x/deep/er/c.py") == "three = 33\n"
        git(lab.root, "worktree", "prune")
        git(lab.root, "worktree", "add", "-q", "-f", "y", "HEAD")
        git(lab.root, "worktree", "remove", "--force", "y")
        lab.assert_current()
        assert lab.paths() == {*MAIN, "x/a.py", "x/src/b.py", "x/deep/er/c.py"}
        assert daemon.error is None
