from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from reposyncd.errors import RootMissingError
from reposyncd.model import RACY_NS, DirectoryRow
from reposyncd.tree.ignore import IgnoreRules
from reposyncd.tree.scan import Snapshot, scan
from tests.support import LATER_NS, write

RULES = IgnoreRules.for_root("/nonexistent", (), {})
NOBODY = 65534


def look(root: Path, known: dict[str, DirectoryRow] | None = None, limit: int = 1 << 20) -> Snapshot:
    return scan(str(root), RULES, known or {}, now_ns=time.time_ns() + LATER_NS, max_file_size=limit)


def remember(snapshot: Snapshot) -> dict[str, DirectoryRow]:
    return {directory.path: directory.row for directory in snapshot.changed}


def files(snapshot: Snapshot) -> set[str]:
    return {path for directory in snapshot.changed for path, _ in directory.files}


def skipped(snapshot: Snapshot) -> dict[str, int]:
    return {reason: count for directory in snapshot.changed for reason, count in directory.row.skipped.items()}


def test_every_file_is_listed_with_its_stat(tmp_path: Path) -> None:
    write(tmp_path, {"a": "one", "d/e/b": "three"})
    (tmp_path / "empty").mkdir()
    found = {path: s for directory in look(tmp_path).changed for path, s in directory.files}
    assert found.keys() == {"a", "d/e/b"}
    expected = (tmp_path / "d/e/b").stat()
    assert found["d/e/b"] == (5, expected.st_mtime_ns, expected.st_ctime_ns, expected.st_ino)


def test_what_is_known_and_unchanged_is_not_looked_at_again(tmp_path: Path) -> None:
    write(tmp_path, {"a": "one", "d/e/b": "three", ".gitignore": "x\n", "x/y": ""})
    known = remember(look(tmp_path))
    again = look(tmp_path, known)
    assert again.unchanged == {"", "d", "d/e"}
    assert again.changed == ()


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "d/b").write_text("other"),
        lambda root: (root / "d/b").unlink(),
        lambda root: (root / "d/new").write_text(""),
        lambda root: (root / "d/b").rename(root / "d/c"),
        lambda root: (root / "d/b").chmod(0o600),
        lambda root: os.utime(root / "d/b", ns=(1, 1)),
        lambda root: (root / "d/inner").mkdir(),
    ],
    ids=["content", "delete", "create", "rename", "mode", "times", "directory"],
)
def test_any_change_in_a_directory_makes_that_directory_changed(tmp_path: Path, change: object) -> None:
    write(tmp_path, {"a": "one", "d/b": "two", "e/c": "three"})
    known = remember(look(tmp_path))
    change(tmp_path)  # type: ignore[operator]
    again = look(tmp_path, known)
    assert "d" in {directory.path for directory in again.changed}
    assert again.unchanged >= {"e"}


def test_a_rule_above_changes_every_directory_below(tmp_path: Path) -> None:
    write(tmp_path, {"d/e/b.o": "", "f": ""})
    known = remember(look(tmp_path))
    write(tmp_path, {".gitignore": "*.o\n"})
    again = look(tmp_path, known)
    assert {directory.path for directory in again.changed} == {"", "d", "d/e"}
    assert files(again) == {"f", ".gitignore"}


def test_a_directory_with_a_young_file_is_not_trusted(tmp_path: Path) -> None:
    write(tmp_path, {"d/young": ""})
    now = (tmp_path / "d/young").stat().st_ctime_ns
    for age, trusted in ((RACY_NS, False), (RACY_NS + 1, True)):
        found = scan(str(tmp_path), RULES, {}, now_ns=now + age, max_file_size=100)
        assert {directory.path: directory.trusted for directory in found.changed} == {"": True, "d": trusted}


def test_what_is_no_plain_file_is_counted_and_not_listed(tmp_path: Path) -> None:
    write(tmp_path, {"real": "text", "large": "x" * 200, "id_rsa": "", "sub/target": ""})
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
    (tmp_path / "to-file").symlink_to("real")
    (tmp_path / "to-directory").symlink_to("sub")
    (tmp_path / "outside").symlink_to("/etc")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nothing")
    with open(os.fsencode(tmp_path) + b"/caf\xe9", "wb"):
        pass
    found = look(tmp_path, limit=100)
    assert files(found) == {"real", "sub/target"}
    assert skipped(found) == {"special": 2, "symlink": 5, "too_large": 1, "secret": 1, "name": 1}


def test_odd_names_are_names_like_any_other(tmp_path: Path) -> None:
    names = {"new\nline", " ", "-rf", "*", "a" * 255, "漢字", "quo'te\"", "\\"}
    write(tmp_path, dict.fromkeys(names, ""))
    assert files(look(tmp_path)) == names


def test_a_directory_whose_name_is_not_utf8_is_skipped_with_all_that_is_in_it(tmp_path: Path) -> None:
    os.makedirs(os.fsencode(tmp_path) + b"/caf\xe9/inner")
    with open(os.fsencode(tmp_path) + b"/caf\xe9/inner/file", "wb"):
        pass
    found = look(tmp_path)
    assert files(found) == set()
    assert skipped(found) == {"name": 1}


def test_a_tree_deeper_than_any_path_may_be_long_is_listed_as_far_as_it_goes(tmp_path: Path) -> None:
    depth, name = 60, "d" * 100
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=here)
        inner = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(os.open("deep", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)
    write(tmp_path, {"shallow": ""})
    found = look(tmp_path)
    assert files(found) == {"shallow"}
    [error] = found.unreadable
    assert "File name too long" in error.error
    import shutil

    shutil.rmtree(tmp_path / name)


def test_a_directory_without_permission_is_unreadable_and_not_empty(tmp_path: Path) -> None:
    write(tmp_path, {"closed/file": "", "open": ""})
    (tmp_path / "closed").chmod(0)
    if os.geteuid() == 0:  # root may list anything, so somebody else looks
        for path in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
            path.chmod(0o755)
        os.seteuid(NOBODY)
    try:
        found = look(tmp_path)
    finally:
        if os.getuid() == 0:
            os.seteuid(0)
        (tmp_path / "closed").chmod(0o700)
    assert files(found) == {"open"}
    [error] = found.unreadable
    assert (error.path, error.error) == ("closed", "cannot be listed: Permission denied")


def test_a_root_that_is_not_there_is_missing(tmp_path: Path) -> None:
    write(tmp_path, {"file": ""})
    for name in ("nothing", "file"):
        with pytest.raises(RootMissingError, match=name):
            look(tmp_path / name)


def test_the_root_is_told_apart_by_device_and_inode(tmp_path: Path) -> None:
    expected = tmp_path.stat()
    assert look(tmp_path).identity == (expected.st_dev, expected.st_ino)
