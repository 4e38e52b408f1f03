"""Whatever is done to a tree, the index follows, and equals one built from scratch."""

from __future__ import annotations

import codecs
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reposyncd.app.processes import Processes
from reposyncd.chunking.inline import InlineChunker
from reposyncd.tree.read import classify
from tests.live.service import Live, live, many, until
from tests.support import open_to_others

NOBODY = 65534


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Live]:
    lab = live(tmp_path)
    lab.write({"a.py": "one = 1\n", "b/c.py": "two = 2\n", "b/d/e.md": "# Three\n\ntext\n", "z/f.txt": "four\n"})
    with lab.running():
        yield lab


def test_a_save_is_in_the_index_without_being_asked_for(lab: Live) -> None:
    lab.write({"a.py": "one = 11\n"})
    until(lambda: lab.text_of("a.py") == "one = 11\n", "the new text is stored")
    lab.until_current()
    lab.assert_current()


def test_an_atomic_save(lab: Live) -> None:
    lab.write({"a.py.tmp": "one = 12\n"})
    (lab.root / "a.py.tmp").rename(lab.root / "a.py")
    lab.assert_current()
    assert lab.text_of("a.py") == "one = 12\n"


def test_a_save_of_an_editor_that_keeps_a_backup(lab: Live) -> None:
    (lab.root / "a.py").rename(lab.root / "a.py~")
    lab.write({"a.py": "one = 13\n"})
    (lab.root / "a.py~").unlink()
    lab.assert_current()
    assert lab.paths() == {"a.py", "b/c.py", "b/d/e.md", "z/f.txt"}


def test_truncate_and_write(lab: Live) -> None:
    with open(lab.root / "a.py", "w") as file:
        file.flush()
        lab.flush()
        file.write("one = 14\n")
    lab.assert_current()
    assert lab.text_of("a.py") == "one = 14\n"


def test_a_file_that_is_appended_to_and_stays_open(lab: Live) -> None:
    with open(lab.root / "a.py", "a") as file:
        for number in range(20):
            file.write(f"line_{number} = {number}\n")
            file.flush()
            if number % 7 == 0:
                lab.assert_current()
        lab.assert_current()
        assert lab.text_of("a.py").endswith("line_19 = 19\n")


def test_an_edit_of_the_same_size_whose_time_is_set_back(lab: Live) -> None:
    before = os.stat(lab.root / "a.py")
    lab.write({"a.py": "one = 9\n"})
    os.utime(lab.root / "a.py", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert os.stat(lab.root / "a.py").st_size == before.st_size
    lab.assert_current()
    assert lab.text_of("a.py") == "one = 9\n"


def test_renames_within_the_tree(lab: Live) -> None:
    (lab.root / "a.py").rename(lab.root / "b/a.py")
    (lab.root / "b/d").rename(lab.root / "moved")
    lab.assert_current()
    assert lab.paths() == {"b/a.py", "b/c.py", "moved/e.md", "z/f.txt"}


def test_an_edit_in_a_directory_that_was_renamed(lab: Live) -> None:
    (lab.root / "b").rename(lab.root / "bb")
    lab.flush()
    lab.write({"bb/c.py": "two = 22\n", "bb/d/e.md": "# Other\n", "bb/d/new/g.py": "x = 1\n"})
    lab.assert_current()
    assert lab.text_of("bb/d/e.md") == "# Other\n"


def test_a_directory_that_leaves_the_tree_is_edited_there_and_comes_back(lab: Live, tmp_path: Path) -> None:
    (lab.root / "b").rename(tmp_path / "outside")
    lab.assert_current()
    assert lab.paths() == {"a.py", "z/f.txt"}
    (tmp_path / "outside" / "c.py").write_text("two = 2222\n")
    (tmp_path / "outside" / "d" / "e.md").unlink()
    (tmp_path / "outside").rename(lab.root / "back")
    lab.assert_current()
    assert lab.text_of("back/c.py") == "two = 2222\n"
    lab.write({"back/d/new.txt": "late\n"})
    lab.assert_current()


def test_files_written_while_their_directories_are_made(lab: Live) -> None:
    for number in range(30):
        place = lab.root / f"new{number}" / "x" / "y" / "z"
        place.mkdir(parents=True)
        (place / "f.txt").write_text(f"in {number}\n")
        (place.parent / "g.txt").write_text(f"above {number}\n")
    lab.assert_current()
    assert len(lab.paths()) == 64


def test_files_that_take_each_others_names_in_a_circle(lab: Live) -> None:
    for _ in range(5):
        (lab.root / "a.py").rename(lab.root / "t")
        (lab.root / "b/c.py").rename(lab.root / "a.py")
        (lab.root / "z/f.txt").rename(lab.root / "b/c.py")
        (lab.root / "t").rename(lab.root / "z/f.txt")
    lab.assert_current()


def test_directories_that_take_each_others_names_in_a_circle(lab: Live) -> None:
    for number in range(5):
        (lab.root / "b").rename(lab.root / "t")
        (lab.root / "z").rename(lab.root / "b")
        (lab.root / "t").rename(lab.root / "z")
        lab.write({f"b/in{number}": "in\n"})
        if number % 2:
            lab.flush()
    lab.assert_current()


def test_a_directory_becomes_a_file_and_a_directory_again(lab: Live) -> None:
    shutil.rmtree(lab.root / "b")
    lab.write({"b": "a file now\n"})
    lab.assert_current()
    assert lab.paths() == {"a.py", "b", "z/f.txt"}
    (lab.root / "b").unlink()
    lab.write({"b/c.py": "two = 3\n"})
    lab.assert_current()
    assert lab.paths() == {"a.py", "b/c.py", "z/f.txt"}
    lab.write({"b/c.py": "two = 4\n"})
    lab.assert_current()


def test_names_that_change_in_case_only(lab: Live) -> None:
    (lab.root / "a.py").rename(lab.root / "A.py")
    (lab.root / "b").rename(lab.root / "B")
    lab.assert_current()
    assert lab.paths() == {"A.py", "B/c.py", "B/d/e.md", "z/f.txt"}


def test_a_file_and_a_directory_that_become_unreadable_keep_their_chunks_and_are_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chunker = InlineChunker(classify)
    chunker.begin("a.py", b"loaded = 1\n", "").result()
    monkeypatch.setattr(Processes, "chunker", chunker)  # nobody may run or import root's Python
    lab = live(tmp_path)
    lab.write({"a.py": "one = 1\n", "b/c.py": "two = 2\n"})
    with as_somebody_else(tmp_path), lab.running():
        become_unreadable_and_readable(lab)


@contextmanager
def as_somebody_else(tmp_path: Path) -> Iterator[None]:
    """Root may read anything; so where the tests run as root, the service runs as nobody."""
    if os.geteuid() != 0:
        yield
        return
    open_to_others(tmp_path)
    codecs.lookup("ascii")  # imported when it is first needed, which somebody else may not be able to do
    for path in (tmp_path, *tmp_path.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def become_unreadable_and_readable(lab: Live) -> None:
    before = lab.records()
    (lab.root / "a.py").chmod(0)
    (lab.root / "b").chmod(0)
    try:
        lab.flush()
        assert lab.records() == before
    finally:
        (lab.root / "a.py").chmod(0o600)
        (lab.root / "b").chmod(0o700)
    lab.write({"b/c.py": "two = 5\n"})
    lab.assert_current()
    assert lab.text_of("b/c.py") == "two = 5\n"


def test_links_are_not_followed_wherever_they_lead(lab: Live, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.txt").write_text("not part of the tree\n")
    (lab.root / "b" / "loop").symlink_to("..")
    (lab.root / "out").symlink_to(tmp_path / "outside")
    (lab.root / "a.py").unlink()
    (lab.root / "a.py").symlink_to("z/f.txt")
    lab.assert_current()
    assert lab.paths() == {"b/c.py", "b/d/e.md", "z/f.txt"}


def test_a_directory_that_is_swapped_for_a_link_is_gone(lab: Live, tmp_path: Path) -> None:
    (lab.root / "b").rename(tmp_path / "outside")
    (lab.root / "b").symlink_to(tmp_path / "outside")
    lab.assert_current()
    (tmp_path / "outside" / "c.py").write_text("nobody sees this\n")
    lab.assert_current()
    assert lab.paths() == {"a.py", "z/f.txt"}


def test_an_ignore_file_that_changes_takes_files_out_and_in(lab: Live) -> None:
    lab.write({".gitignore": "b/\n*.txt\n"})
    lab.assert_current()
    assert lab.paths() == {".gitignore", "a.py"}
    assert lab.status()["watch"]["directories"] == 2
    lab.write({"b/c.py": "changed while ignored\n", "b/new/x.py": "new while ignored\n"})
    lab.assert_current()
    lab.write({".gitignore": "*.txt\n"})
    lab.assert_current()
    assert lab.paths() == {".gitignore", "a.py", "b/c.py", "b/d/e.md", "b/new/x.py"}
    lab.write({"b/new/x.py": "and watched again\n"})
    lab.assert_current()
    (lab.root / ".gitignore").unlink()
    lab.assert_current()
    assert "z/f.txt" in lab.paths()


def test_ignored_directories_are_not_watched_and_what_happens_in_them_costs_nothing(
    lab: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.write({".gitignore": "node_modules/\n"})
    lab.flush()
    lab.write({"node_modules/p0/index.js": "x\n"})  # the directory itself is made in one that is watched
    lab.flush()
    watched = lab.status()["watch"]["directories"]
    hints: list[str] = []
    assert lab.daemon
    watches = lab.daemon.engine.watching._watches
    assert watches
    on_hint = watches._on_hint

    def heard(root: str, path: str, recursive: bool) -> None:
        hints.append(path)
        on_hint(root, path, recursive)

    monkeypatch.setattr(watches, "_on_hint", heard)
    lab.write({f"node_modules/p{number}/index.js": "x\n" for number in range(200)})
    lab.flush()
    assert (hints, lab.status()["watch"]["directories"]) == ([], watched)
    lab.write({"heard.py": "one = 1\n"})
    lab.flush()
    assert hints
    lab.assert_current()


def test_what_is_created_and_deleted_again_leaves_no_trace(lab: Live) -> None:
    before = lab.records()
    for number in range(100):
        lab.write({f"tmp{number}": "gone in a moment\n"})
        (lab.root / f"tmp{number}").unlink()
    lab.flush()
    assert lab.records() == before
    lab.assert_current()


def test_a_storm_of_edits_while_the_index_follows(lab: Live) -> None:
    def storm() -> None:
        for number in range(1500):
            lab.write({f"s{number % 40}/f{number % 300}.txt": f"round {number}\n"})
            if number % 5 == 0:
                lab.write({f"s{(number + 7) % 40}/f{(number + 7) % 300}.txt": None})
            if number % 97 == 0:
                shutil.rmtree(lab.root / f"s{number % 40}", ignore_errors=True)

    thread = threading.Thread(target=storm)
    thread.start()
    while thread.is_alive():
        lab.flush()
    thread.join()
    lab.assert_current()


def test_a_thousand_files_at_once(lab: Live) -> None:
    lab.write(many(1000))
    lab.assert_current()
    shutil.rmtree(lab.root / "d1")
    lab.write(dict.fromkeys(many(400)))
    lab.write(many(700, lambda number: f"second {number}\n"))
    lab.assert_current()


def test_a_repository_that_appears_inside_brings_its_own_rules(lab: Live) -> None:
    lab.write({".gitignore": "*.log\n", "b/x.log": "ignored outside\n"})
    lab.assert_current()
    for name in ("objects", "refs"):
        (lab.root / "b/.git" / name).mkdir(parents=True)
    (lab.root / "b/.git/HEAD").write_text("ref: refs/heads/main\n")
    lab.assert_current()


def test_a_hard_link_into_the_tree_is_a_file_of_it(lab: Live, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.txt").write_text("linked\n")
    (lab.root / "linked.txt").hardlink_to(tmp_path / "elsewhere.txt")
    lab.assert_current()
    assert lab.text_of("linked.txt") == "linked\n"
