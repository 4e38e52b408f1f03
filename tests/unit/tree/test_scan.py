from __future__ import annotations

import os
import resource
import socket
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from reposyncd.errors import RefusedRootError, RootMissingError
from reposyncd.model import RACY_NS, WHOLE, DirectoryRow, Scope
from reposyncd.tree.ignore import IgnoreRules
from reposyncd.tree.offlimits import OffLimits
from reposyncd.tree.scan import Snapshot, scan
from tests.support import LATER_NS, open_to_others, write

RULES = IgnoreRules.for_root("/nonexistent", (), {})
NOBODY = 65534


def look(root: Path, known: dict[str, DirectoryRow] | None = None, limit: int = 1 << 20) -> Snapshot:
    return scan(str(root), RULES, {} if known is None else known, now_ns=time.time_ns() + LATER_NS, max_file_size=limit)


def as_somebody_else(tmp_path: Path, what: Callable[[], Snapshot]) -> Snapshot:
    """Root may list anything; so where the tests run as root, they look as nobody."""
    if os.geteuid() != 0:
        return what()
    open_to_others(tmp_path)
    os.seteuid(NOBODY)
    try:
        return what()
    finally:
        os.seteuid(0)


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
    found = as_somebody_else(tmp_path, lambda: look(tmp_path))
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


def test_a_tree_of_hundreds_of_levels_is_listed_with_few_descriptors(tmp_path: Path) -> None:
    levels = 400
    here = os.open(tmp_path, os.O_RDONLY)
    for level in range(levels):
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
        if level % 100 == 0:
            os.mkdir("e", dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    before = os.listdir("/proc/self/fd")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(before) + 100, hard))
    try:
        found = look(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert os.listdir("/proc/self/fd") == before
    assert not found.unreadable
    assert len(files(found)) == levels
    assert len(found.changed) == 1 + levels + levels // 100
    assert look(tmp_path, remember(found)).changed == ()
    subprocess.run(["rm", "-rf", str(tmp_path / "d")], check=True)


def test_no_descriptor_is_left_open_when_a_scan_fails(tmp_path: Path) -> None:
    write(tmp_path, {"a/b/c/file": "", "d/e/file": ""})
    before = os.listdir("/proc/self/fd")

    class Failing(dict[str, DirectoryRow]):
        def get(self, path: str, default: object = None) -> None:  # type: ignore[override]
            if path == "a/b/c":
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        look(tmp_path, Failing())
    assert os.listdir("/proc/self/fd") == before


def test_a_directory_swapped_for_a_link_is_not_followed_at_any_depth(tmp_path: Path) -> None:
    write(tmp_path, {"outside/inner/deep/secret": "", "tree/d/inner/deep/file": ""})
    root = tmp_path / "tree"

    class Swapping(dict[str, DirectoryRow]):
        """Makes the swap when the scan asks about a directory: it is listed then, and what is in it is not."""

        def get(self, path: str, default: object = None) -> None:  # type: ignore[override]
            if path == "d/inner":
                (root / "d").rename(root / "moved")
                (root / "d").symlink_to(tmp_path / "outside")

    assert files(look(root, Swapping())) == {"d/inner/deep/file"}
    assert files(look(root)) == {"moved/inner/deep/file"}


def test_a_directory_that_vanishes_during_the_scan_is_gone_and_no_error(tmp_path: Path) -> None:
    write(tmp_path, {"a/file": "", "b": ""})

    class Removing(dict[str, DirectoryRow]):
        def get(self, path: str, default: object = None) -> None:  # type: ignore[override]
            if path == "":
                write(tmp_path, {"a": None})

    found = look(tmp_path, Removing())
    assert files(found) == {"b"}
    assert not found.unreadable


def test_our_own_directories_are_not_entered(tmp_path: Path) -> None:
    write(tmp_path, {"state/manifest.db": "", "state/d/a": "", "state-of-the-art/file": "", "d/state/file": ""})
    found = look_within(tmp_path, OffLimits.of(str(tmp_path / "state"), ""))
    assert files(found) == {"state-of-the-art/file", "d/state/file"}
    below = Scope(trees=frozenset({"state/d"}), flat=frozenset({"state"}))
    assert files(look_within(tmp_path, OffLimits.of(str(tmp_path / "state"), ""), below)) == set()


def test_our_own_directory_is_known_by_what_it_is_and_not_by_its_name(tmp_path: Path) -> None:
    write(tmp_path, {"tree/state/manifest.db": "", "tree/a": ""})
    (tmp_path / "link").symlink_to(tmp_path / "tree" / "state")
    assert files(look_within(tmp_path / "tree", OffLimits.of(str(tmp_path / "link"), ""))) == {"a"}


def test_the_token_of_the_api_is_not_listed_wherever_it_is_linked(tmp_path: Path) -> None:
    write(tmp_path, {"state/api-token": "a token\n", "tree/a": ""})
    os.link(tmp_path / "state" / "api-token", tmp_path / "tree" / "notes.txt")
    assert files(look_within(tmp_path / "tree", OffLimits.of(str(tmp_path / "state"), ""))) == {"a"}


def test_a_file_system_of_the_kernels_below_the_root_is_not_entered(tmp_path: Path) -> None:
    write(tmp_path, {"sys/kernel/file": "", "src/file": ""})
    # Nobody but root can mount one here; so the file system that this is on is taken for one, below the root.
    off_limits = OffLimits(pseudo={os.stat(tmp_path).st_dev: "sysfs"})
    with pytest.raises(RefusedRootError):
        look_within(tmp_path, off_limits)
    found = look_within(Path("/"), OffLimits.of(str(tmp_path)), Scope(flat=frozenset({"proc", "proc/self", "sys"})))
    assert files(found) == set()
    assert not found.changed


def look_within(root: Path, off_limits: OffLimits, scope: Scope = WHOLE) -> Snapshot:
    return scan(str(root), RULES, {}, now_ns=time.time_ns(), max_file_size=100, off_limits=off_limits, scope=scope)


def test_an_ignore_file_that_cannot_be_read_makes_its_directory_unreadable(tmp_path: Path) -> None:
    write(tmp_path, {"d/.gitignore": "*.o\n", "d/a.o": "", "d/e/b.o": "", "f": ""})
    (tmp_path / "d/.gitignore").chmod(0)
    found = as_somebody_else(tmp_path, lambda: look(tmp_path))
    assert files(found) == {"f"}
    [error] = found.unreadable
    assert (error.path, error.error) == ("d", "cannot be listed: .gitignore: Permission denied")


def test_entries_whose_stat_cannot_be_had_are_unreadable_and_not_gone(tmp_path: Path) -> None:
    write(tmp_path, {"d/a": "", "d/e/b": "", "f": ""})
    (tmp_path / "d").chmod(0o444)  # may be listed, and nothing in it reached
    found = as_somebody_else(tmp_path, lambda: look(tmp_path))
    (tmp_path / "d").chmod(0o755)
    assert {error.path for error in found.unreadable} == {"d/a", "d/e"}
    assert {directory.path: directory.trusted for directory in found.changed} == {"": True, "d": False}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a device")
def test_a_device_is_special_and_is_not_opened(tmp_path: Path) -> None:
    try:
        os.mknod(tmp_path / "device", stat.S_IFCHR | 0o600, os.makedev(1, 5))  # /dev/zero: it never ends
    except PermissionError:
        pytest.skip("this root may not make devices")
    assert skipped(look(tmp_path)) == {"special": 1}
