"""Changes of directories, which directory is watched, and a listing that follows the hints."""

from __future__ import annotations

import errno
import os
import random
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from reposyncd.tree.directory import OPEN_DIRECTORY, open_below
from tests.support import Nodes, write
from tests.unit.tree.listening import (
    AMPLE_S,
    Listener,
    opened,
)

NOBODY = 65534


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "new").mkdir(),
        lambda root: shutil.copytree(root / "old", root / "new"),
        lambda root: (root.parent / "elsewhere").rename(root / "new"),
    ],
    ids=["made", "copied", "moved in"],
)
def test_a_new_directory_hints_at_its_tree(listener: Listener, change: Callable[[Path], None]) -> None:
    write(listener.root, {"old/a/b": ""})
    (listener.root.parent / "elsewhere").mkdir()
    listener.watch("")
    change(listener.root)
    assert listener.heard() == {("", False), ("new", True)}


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "d/e").rmdir(),
        lambda root: (root / "d/e").rename(root.parent / "out"),
        lambda root: (root / "d/e").chmod(0o700),
    ],
    ids=["deleted", "moved out", "chmod"],
)
@pytest.mark.parametrize("watched", [("", "d"), ("", "d", "d/e")], ids=["alone", "itself too"])
def test_a_change_of_a_directory_hints_at_its_tree(
    listener: Listener, watched: tuple[str, ...], change: Callable[[Path], None]
) -> None:
    (listener.root / "d/e").mkdir(parents=True)
    listener.watch(*watched)
    change(listener.root)
    assert listener.heard() == {("d", False), ("d/e", True)}


def test_of_a_renamed_directory_both_names_are_hinted(listener: Listener) -> None:
    (listener.root / "old").mkdir()
    listener.watch("")
    (listener.root / "old").rename(listener.root / "new")
    assert listener.heard() == {("", False), ("old", True), ("new", True)}


def test_a_renamed_directory_is_known_by_its_new_path(listener: Listener) -> None:
    (listener.root / "old/inner").mkdir(parents=True)
    listener.watch("", "old", "old/inner")
    (listener.root / "old").rename(listener.root / "new")
    listener.watch("new", "new/inner")
    assert listener.watches.count("R") == 3
    listener.watches.prune("R", ["old"], ())
    assert listener.watches.count("R") == listener.watches.total() == 3
    listener.heard()
    write(listener.root, {"new/inner/a": ""})
    assert listener.heard() == {("new/inner", False)}


def test_directories_that_swap_their_names_are_both_watched(listener: Listener) -> None:
    write(listener.root, {"a/of-a": "", "b/of-b": ""})
    listener.watch("", "a", "b")
    (listener.root / "a").rename(listener.root / "c")
    (listener.root / "b").rename(listener.root / "a")
    (listener.root / "c").rename(listener.root / "b")
    listener.watch("a", "b")
    listener.heard()
    assert listener.watches.count("R") == listener.watches.total() == 3
    write(listener.root, {"a/of-b": "x"})
    assert listener.heard() == {("a", False)}
    write(listener.root, {"b/of-a": "x"})
    assert listener.heard() == {("b", False)}


def test_a_directory_in_the_place_of_another_is_watched_instead_of_it(listener: Listener) -> None:
    (listener.root / "d").mkdir()
    listener.watch("", "d")
    (listener.root / "d").rename(listener.root.parent / "out")
    (listener.root / "d").mkdir()
    listener.watch("d")
    listener.heard()
    write(listener.root.parent, {"out/a": ""})
    assert listener.heard() == set()
    write(listener.root, {"d/a": ""})
    assert listener.heard() == {("d", False)}
    assert listener.watches.total() == 2


def test_what_was_moved_out_is_silent_when_it_has_been_pruned(listener: Listener) -> None:
    (listener.root / "d/e").mkdir(parents=True)
    listener.watch("", "d", "d/e")
    (listener.root / "d").rename(listener.root.parent / "out")
    listener.watches.prune("R", ["d"], ())
    listener.heard()
    write(listener.root.parent, {"out/a": "", "out/e/a": ""})
    (listener.root.parent / "out").rename(listener.root.parent / "farther")
    assert listener.heard() == set()
    assert listener.watches.count("R") == listener.watches.total() == 1


def test_a_deep_directory_beyond_any_path_is_watched(listener: Listener) -> None:
    names = ["n" * 250] * 20
    fd = os.open(listener.root, OPEN_DIRECTORY)
    for name in names:
        os.mkdir(name, dir_fd=fd)
        outer, fd = fd, os.open(name, OPEN_DIRECTORY, dir_fd=fd)
        os.close(outer)
    try:
        path = "/".join(names)
        assert listener.watches.watch("R", path, fd) == 0
        os.mkdir("inner", dir_fd=fd)
        assert listener.heard() == {(path, False), (path + "/inner", True)}
    finally:
        os.close(fd)
        listener.watches.drop("R")


def test_it_is_the_open_directory_that_is_watched_whatever_is_at_its_path_now(listener: Listener) -> None:
    (listener.root / "d").mkdir()
    write(listener.root.parent, {"secret/a": ""})
    with opened(listener.root / "d") as fd:
        (listener.root / "d").rename(listener.root / "moved")
        (listener.root / "d").symlink_to(listener.root.parent / "secret")
        assert listener.watches.watch("R", "d", fd) == 0
    write(listener.root.parent, {"secret/a": "x"})
    assert listener.heard() == set()
    write(listener.root, {"moved/a": ""})
    assert listener.heard() == {("d", False)}


def test_a_file_cannot_be_watched(listener: Listener) -> None:
    write(listener.root, {"a": ""})
    fd = os.open(listener.root / "a", os.O_RDONLY)
    try:
        assert listener.watches.watch("R", "a", fd) == errno.ENOTDIR
    finally:
        os.close(fd)
    assert listener.watches.unwatched("R") == {"a": errno.ENOTDIR}


def test_a_directory_that_may_not_be_watched_is_noted_until_it_can_be(listener: Listener) -> None:
    (listener.root / "d").mkdir()
    (listener.root / "d2").mkdir()
    assert listener.watch("", "d") == [0, 0]
    with opened(listener.root / "d") as fd, opened(listener.root / "d2") as fd2:
        (listener.root / "d").chmod(0)
        (listener.root / "d2").chmod(0)
        with as_somebody_else():
            assert listener.watches.watch("R", "d", fd) == errno.EACCES
            assert listener.watches.watch("R", "d2", fd2) == errno.EACCES
        assert listener.watches.unwatched("R") == {"d": errno.EACCES, "d2": errno.EACCES}
        assert listener.watches.count("R") == listener.watches.total() == 1
        (listener.root / "d").chmod(0o700)
        assert listener.watches.watch("R", "d", fd) == 0
        assert listener.watches.unwatched("R") == {"d2": errno.EACCES}
        assert listener.watches.count("R") == 2
    (listener.root / "d2").chmod(0o700)
    listener.watches.prune("R", ["d2"], ())
    assert listener.watches.unwatched("R") == {}


@contextmanager
def as_somebody_else() -> Iterator[None]:
    """Root may watch anything; so where the tests run as root, they are nobody for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


class Mirror:
    """A listing of the tree that only hints keep up to date."""

    def __init__(self, listener: Listener) -> None:
        self._ear = listener
        self.known: dict[str, Nodes] = {}

    def follow(self) -> bool:
        """Lists again what hints have told of; False if there were none."""
        assert self._ear.watches.settle(AMPLE_S)
        hints = set()
        with suppress(IndexError):
            while True:
                hints.add(self._ear.hints.pop())
        with opened(self._ear.root) as top:
            for _, path, recursive in hints:
                self.list(top, path, recursive)
        return bool(hints)

    def list(self, top: int, path: str, recursive: bool) -> None:
        if recursive:
            for each in [each for each in self.known if f"{each}/".startswith(f"{path}/" if path else "")]:
                del self.known[each]
        try:
            fd = open_below(top, path)
        except OSError:
            self.known.pop(path, None)
            self._ear.watches.prune("R", [path], ())
            return
        listing: dict[str, bytes | None] = {}
        try:
            assert self._ear.watches.watch("R", path, fd) == 0
            with os.scandir(fd) as entries:
                for entry in entries:
                    size = b""
                    with suppress(FileNotFoundError):
                        size = str(entry.stat(follow_symlinks=False).st_size).encode()
                    listing[entry.name] = None if entry.is_dir(follow_symlinks=False) else size
        finally:
            os.close(fd)
        self.known[path] = listing
        if recursive:
            for name in [name for name, size in listing.items() if size is None]:
                self.list(top, f"{path}/{name}" if path else name, True)
            self._ear.watches.prune("R", [path], self.known)


def test_who_follows_the_hints_ends_up_with_the_tree_as_it_is(listener: Listener) -> None:
    mirror = Mirror(listener)
    with opened(listener.root) as top:
        mirror.list(top, "", True)
    chance = random.Random(7)
    letters = "abcd"

    def path() -> Path:
        return listener.root.joinpath(*(chance.choice(letters) for _ in range(chance.randint(1, 4))))

    def change_much() -> None:
        for number in range(3000):
            with suppress(OSError):
                match chance.randrange(8):
                    case 0 | 1 | 2:
                        path().mkdir(parents=True)
                    case 3 | 4:
                        (path() / f"file{number % 5}").write_text("x" * number)
                    case 5 | 6:
                        path().rename(path())
                    case _:
                        shutil.rmtree(path())

    changing = threading.Thread(target=change_much)
    changing.start()
    while changing.is_alive():
        mirror.follow()
    while mirror.follow():
        pass
    expected: dict[str, Nodes] = {}
    for directory, inner, files in os.walk(listener.root):
        sizes = {name: str(Path(directory, name).stat().st_size).encode() for name in files}
        expected[os.path.relpath(directory, listener.root).removeprefix(".")] = {**dict.fromkeys(inner), **sizes}
    assert mirror.known == expected
    assert listener.watches.count("R") == listener.watches.total() == len(expected)
