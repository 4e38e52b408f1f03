"""Where rules come from, beyond the files that lie in the tree; git itself is asked where it has an opinion."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from reposyncd.errors import UnreadableError
from reposyncd.tree.ignore import IgnoreRules
from reposyncd.tree.scan import Snapshot, scan
from tests.support import write


def git(cwd: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@t", "-c", "protocol.file.allow=always", *arguments]
    return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True).stdout


def snapshot(root: Path, *excludes: str) -> Snapshot:
    rules = IgnoreRules.for_root(str(root), excludes, dict(os.environ))
    return scan(str(root), rules, {}, now_ns=0, max_file_size=1 << 20)


def kept(root: Path, *excludes: str) -> set[str]:
    return {path for directory in snapshot(root, *excludes).changed for path, _ in directory.files}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    return root


def test_a_tree_without_git_has_its_ignore_files_honoured(root: Path) -> None:
    write(
        root, {"a.py": "", "a.log": "", "d/b.log": "", "d/c.log": "", ".gitignore": "*.log\n", "d/.gitignore": "!b.log"}
    )
    assert kept(root) == {"a.py", "d/b.log", ".gitignore", "d/.gitignore"}


def test_our_own_ignore_file_is_stronger_than_gits(root: Path) -> None:
    write(root, {"a.log": "", "b.txt": "", ".gitignore": "*.log\n", ".reposyncdignore": "!a.log\nb.txt\n"})
    assert kept(root) == {"a.log", ".gitignore", ".reposyncdignore"}


def test_configured_excludes_are_stronger_than_every_file(root: Path) -> None:
    write(root, {"a.log": "", "d/e/x.py": "", "x.py": "", ".reposyncdignore": "!*.log\n"})
    assert kept(root, "*.log", "/d/e/") == {"x.py", ".reposyncdignore"}


def test_an_ignored_directory_is_not_entered_and_nothing_in_it_comes_back(root: Path) -> None:
    write(root, {"node_modules/x/a.js": "", "node_modules/.gitignore": "!*\n", ".gitignore": "node_modules\n!a.js\n"})
    assert kept(root) == {".gitignore"}
    [directory] = snapshot(root).changed
    assert directory.row.pruned == ("node_modules",)
    assert directory.row.skipped == {"ignored": 1}


def test_the_git_directory_is_never_entered_whatever_the_rules_say(root: Path) -> None:
    git(root, "init", "-q")
    write(root, {"a": "", ".gitignore": "!.git\n"})
    assert kept(root, "!.git", "!.git/**") == {"a", ".gitignore"}


@pytest.mark.parametrize("value", ["~/my ignores", '"~/my ignores"', "{home}/my ignores ; a comment"])
def test_the_users_excludes_file_is_found_where_git_config_says(root: Path, value: str) -> None:
    home = Path(os.environ["HOME"])
    write(
        home,
        {
            "my ignores": "*.tmp\n",
            ".gitconfig": f"[user]\nname=x\n[core]\n\texcludesFile = {value.format(home=home)}\n",
        },
    )
    git(root, "init", "-q")
    write(root, {"a.tmp": "", "b": ""})
    try:
        assert kept(root) == {"b"}
        assert git(root, "check-ignore", "a.tmp") == "a.tmp\n"
    finally:
        write(home, {"my ignores": None, ".gitconfig": None})


def test_a_worktree_has_the_info_exclude_of_its_repository(root: Path, tmp_path: Path) -> None:
    git(root, "init", "-q")
    write(root, {"tracked": "x\n", ".git/info/exclude": "secret-plans\n"})
    git(root, "add", "tracked")
    git(root, "commit", "-q", "-m", "one")
    git(root, "worktree", "add", "-q", str(tmp_path / "tree"))
    write(tmp_path / "tree", {"secret-plans": "", "other": ""})
    assert git(tmp_path / "tree", "check-ignore", "secret-plans", "other").split() == ["secret-plans"]
    assert kept(tmp_path / "tree") == {"tracked", "other"}


def test_a_submodule_has_rules_of_its_own_and_not_those_around_it(root: Path, tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    git(inner, "init", "-q")
    write(inner, {"code.c": "", ".gitignore": "*.o\n"})
    git(inner, "add", ".")
    git(inner, "commit", "-q", "-m", "one")
    git(root, "init", "-q")
    git(root, "submodule", "--quiet", "add", str(inner), "sub")
    write(root, {".gitignore": "*.txt\n", "a.txt": "", "b.o": "", "sub/a.txt": "", "sub/b.o": ""})
    ignored = git(root / "sub", "ls-files", "-o", "-i", "--exclude-standard").split()
    assert ignored == ["b.o"]
    assert kept(root) == {".gitignore", ".gitmodules", "b.o", "sub/.gitignore", "sub/code.c", "sub/a.txt"}
    exclude = Path(git(root / "sub", "rev-parse", "--git-path", "info/exclude").strip())
    (root / "sub" / exclude).write_text("code.c\n")
    assert "sub/code.c" not in kept(root)


def test_a_root_inside_a_repository_has_the_rules_above_it(root: Path) -> None:
    git(root, "init", "-q")
    write(
        root,
        {
            ".gitignore": "/a/b/x\n*.log\n",
            "a/.gitignore": "!keep.log\n/y\n",
            ".git/info/exclude": "/a/b/z\n",
            "a/b/x": "",
            "a/b/y": "",
            "a/b/z": "",
            "a/b/keep.log": "",
            "a/b/drop.log": "",
        },
    )
    assert kept(root / "a" / "b") == {"y", "keep.log"}
    git(root, "add", ".")
    assert git(root, "ls-files", "a/b").split() == ["a/b/keep.log", "a/b/y"]


def test_an_ignore_file_that_is_a_link_is_not_followed(root: Path) -> None:
    write(root, {"rules": "*\n", "a": ""})
    (root / ".gitignore").symlink_to("rules")
    assert kept(root) == {"a", "rules"}


def test_the_digest_changes_with_every_rule_and_its_place() -> None:
    base = IgnoreRules.for_root("/nonexistent", (), {})
    digests = {
        base.digest,
        IgnoreRules.for_root("/nonexistent", ("x",), {}).digest,
        IgnoreRules.for_root("/nonexistent", (), {}, salt="other").digest,
        base.enter("a", b"x", None).digest,
        base.enter("b", b"x", None).digest,
        base.enter("a", None, b"x").digest,
        base.enter("a", b"", None).digest,
        base.enter("a", b"x", None).enter("a/b", b"x", None).digest,
    }
    assert len(digests) == 8
    assert base.enter("a", None, None) is base


def test_what_only_has_the_name_of_a_repository_is_none(root: Path) -> None:
    git(root, "init", "-q")
    write(root, {".gitignore": "*.log\n", "fixture/.git/config": "", "fixture/a.log": "", "fixture/b": ""})
    assert kept(root) == {".gitignore", "fixture/b"}
    assert git(root, "ls-files", "-o", "--exclude-standard").split() == [".gitignore", "fixture/b"]


def test_a_repository_that_is_not_mounted_still_keeps_outer_rules_out(root: Path) -> None:
    write(root, {".gitignore": "*.log\n", "sub/.git": "gitdir: ../.git/modules/sub\n", "sub/a.log": ""})
    assert kept(root) == {".gitignore", "sub/a.log"}


def test_without_a_home_there_are_no_rules_of_a_user(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, {".config/git/ignore": "*\n", ".gitconfig": "[core]\nexcludesFile = rules\n", "rules": "*\n"})
    write(root, {"a": ""})
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HOME")
    assert kept(root) == {"a"}


@pytest.mark.parametrize(
    "config",
    [
        "[core]\n\texcludesFile = rules\n",
        "\ufeff[CORE] ExcludesFile=rules",
        "[core]\r\n\texcludesFile = rules\r\n",
        "[core]\n\texcludesFile = ru\\\nles\n",
        "[core]\n# a comment \\\n\texcludesFile = rules # another\n",
        "[core]\n\texcludesFile = none\n[user]\nexcludesFile = x\n[core]\nexcludesFile = rules\n",
    ],
)
def test_the_configuration_is_read_as_git_reads_it(root: Path, config: str) -> None:
    git(root, "init", "-q")
    write(root, {"rules": "*.tmp\n", "a.tmp": "", ".git/config": config})
    assert git(root, "check-ignore", "a.tmp") == "a.tmp\n"
    assert kept(root) == {"rules"}


def test_an_empty_excludes_file_is_none_and_not_the_default(root: Path) -> None:
    home = Path(os.environ["HOME"])
    git(root, "init", "-q")
    write(root, {"a.tmp": ""})
    write(home, {".config/git/ignore": "*.tmp\n"})
    try:
        assert kept(root) == set()
        write(root, {".git/config": "[core]\n\texcludesFile =\n"})
        assert git(root, "ls-files", "-o", "--exclude-standard").split() == ["a.tmp"]
        assert kept(root) == {"a.tmp"}
    finally:
        write(home, {".config": None})


def test_an_ignore_file_above_the_root_that_is_a_link_is_not_followed(root: Path) -> None:
    git(root, "init", "-q")
    write(root, {"rules": "*\n", "d/a": ""})
    (root / ".gitignore").symlink_to("rules")
    assert kept(root / "d") == {"a"}


def test_an_ignore_file_too_large_to_be_one_makes_its_directory_unreadable(root: Path) -> None:
    write(root, {"d/.gitignore": "x" * (8 << 20) + "\n", "d/a": "", "e/b": ""})
    found = snapshot(root)
    assert [(error.path, error.error) for error in found.unreadable] == [
        ("d", "cannot be listed: .gitignore: File too large")
    ]
    assert {directory.path for directory in found.changed} == {"", "e"}


def test_rules_above_the_root_that_cannot_be_read_are_an_error_and_not_absent(root: Path) -> None:
    git(root, "init", "-q")
    write(root, {".git/info/exclude": "x" * (8 << 20) + "\n"})
    with pytest.raises(UnreadableError, match=r"info/exclude cannot be read: File too large"):
        snapshot(root)


def test_patterns_by_the_ten_thousand_and_patterns_beyond_all_reason_do_no_harm() -> None:
    many = "".join(f"/{n}/{n:x}-*/{'long' * 5}.c\n" for n in range(20_000))
    absurd = "*a*b" * 50_000 + "\n" + "**/" * 50_000 + "x.d\n" + "[!a-z]" * 3_000 + "\n" + "?" * 5_000 + "\n"
    rules = IgnoreRules.for_root("/nonexistent", (), {}).enter("", ("*.o\n" + absurd + many + "!b.o\n").encode(), None)
    assert rules.ignores("a/a.o", False)
    assert not rules.ignores("a/b.o", False)
    assert rules.ignores(f"15000/{15000:x}-y/{'long' * 5}.c", False)
    assert rules.ignores("x.d", False)
    assert not rules.ignores("x.c", False)
