from __future__ import annotations

import errno
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from reposyncd.tree.directory import OPEN_DIRECTORY, open_below
from reposyncd.tree.ignore import IgnoreRules
from reposyncd.tree.watch import Watches
from tests.support import Nodes, write

AMPLE_S = 30.0
"""For what takes milliseconds unless it is broken."""

NOBODY = 65534
MOST_EVENTS_TO_MAKE = 200_000


class Ear:
    """Watches, and what they tell of the root "R"; `hold` keeps the reader inside of a hint until `release`."""

    def __init__(self, top: Path) -> None:
        self.root = top / "root"
        self.root.mkdir()
        self.cookies = top / "cookies"
        self.hints: list[tuple[str, str, bool]] = []
        self.overflows = 0
        self.deaths: list[str] = []
        self.died = threading.Event()
        self.held = threading.Event()
        self.release = threading.Event()
        self.release.set()
        self.broken: Exception | None = None
        self.watches = Watches(
            str(self.cookies), on_hint=self._on_hint, on_overflow=self._on_overflow, on_death=self._on_death
        )

    def _on_hint(self, root: str, path: str, recursive: bool) -> None:
        self.hints.append((root, path, recursive))
        if self.broken:
            raise self.broken
        if not self.release.is_set():
            self.held.set()
            assert self.release.wait(AMPLE_S)

    def _on_overflow(self) -> None:
        self.overflows += 1

    def _on_death(self, why: str) -> None:
        self.deaths.append(why)
        self.died.set()

    def watch(self, *paths: str, root: str = "R", top: Path | None = None) -> list[int]:
        """Their errnos, and nothing has been heard yet."""
        answers = []
        for path in paths:
            with opened((top or self.root) / path) as fd:
                answers.append(self.watches.watch(root, path, fd))
        self.hints.clear()
        return answers

    def heard(self) -> set[tuple[str, bool]]:
        """(path, recursive) of all hints until now, since they were last asked for."""
        assert self.watches.settle(AMPLE_S)
        hints, self.hints = self.hints, []
        assert {root for root, _, _ in hints} <= {"R"}
        return {(path, recursive) for _, path, recursive in hints}

    def learn(self, path: str, patterns: str) -> None:
        self.watches.learn("R", path, rules_of(patterns))


@contextmanager
def opened(path: Path) -> Iterator[int]:
    fd = os.open(path, OPEN_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


def rules_of(patterns: str) -> IgnoreRules:
    return IgnoreRules.for_root("/nonexistent", patterns.split(), {})


@pytest.fixture
def ear(tmp_path: Path) -> Iterator[Ear]:
    ear = Ear(tmp_path)
    yield ear
    ear.release.set()
    ear.watches.close()


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "new").touch(),
        lambda root: (root / "a").write_text("other"),
        lambda root: (root / "a").unlink(),
        lambda root: (root / "a").rename(root / "b"),
        lambda root: (root / "a").rename(root.parent / "out"),
        lambda root: (root.parent / "elsewhere").rename(root / "in"),
        lambda root: (root.parent / "elsewhere").replace(root / "a"),
        lambda root: (root / "b").hardlink_to(root / "a"),
        lambda root: (root / "b").symlink_to("a"),
        lambda root: (root / "b").symlink_to(root.parent, target_is_directory=True),
        lambda root: (root / "a").chmod(0o600),
        lambda root: os.utime(root / "a", ns=(1, 1)),
        lambda root: os.truncate(root / "a", 1),
        lambda root: os.mkfifo(root / "fifo"),
    ],
    ids=[
        "create",
        "change",
        "delete",
        "rename",
        "out",
        "in",
        "save",
        "hard-link",
        "link",
        "link-to-directory",
        "chmod",
        "utime",
        "truncate",
        "fifo",
    ],
)
def test_a_change_of_a_file_hints_at_its_directory(ear: Ear, change: Callable[[Path], None]) -> None:
    write(ear.root, {"a": "content"})
    write(ear.root.parent, {"elsewhere": ""})
    assert ear.watch("") == [0]
    change(ear.root)
    assert ear.heard() == {("", False)}


def test_the_path_of_a_directory_is_in_its_hints(ear: Ear) -> None:
    write(ear.root, {"d/e/a": "", "d/b": ""})
    ear.watch("", "d", "d/e")
    write(ear.root, {"d/e/a": "x"})
    assert ear.heard() == {("d/e", False)}
    write(ear.root, {"d/b": "x"})
    assert ear.heard() == {("d", False)}


def test_an_atomic_save_beside_many_others_is_one_hint(ear: Ear) -> None:
    ear.watch("")
    ear.release.clear()
    write(ear.root, {"first": ""})
    assert ear.held.wait(AMPLE_S)
    for number in range(100):
        (ear.root / "tmp").write_text("content")
        (ear.root / "tmp").replace(ear.root / f"a{number}")
    ear.release.set()
    assert ear.watches.settle(AMPLE_S)
    assert len(ear.hints) == 2  # of the first event, and of the rest in one buffer


def test_what_is_written_and_not_closed_is_heard(ear: Ear) -> None:
    write(ear.root, {"log": ""})
    ear.watch("")
    with (ear.root / "log").open("a") as log:
        ear.heard()
        log.write("line")
        log.flush()
        assert ear.heard() == {("", False)}


def test_what_is_written_to_a_deleted_file_is_not_heard(ear: Ear) -> None:
    write(ear.root, {"log": ""})
    ear.watch("")
    with (ear.root / "log").open("a") as log:
        (ear.root / "log").unlink()
        assert ear.heard() == {("", False)}
        log.write("line")
        log.flush()
        assert ear.heard() == set()


def test_reading_is_not_heard(ear: Ear) -> None:
    write(ear.root, {"a": "content", "d/b": "", ".gitignore": ""})
    ear.watch("", "d")
    for directory, _, names in os.walk(ear.root):
        for name in names:
            path = Path(directory, name)
            path.stat()
            path.read_bytes()
    assert ear.heard() == set()


def test_a_watch_that_is_made_again_is_not_heard(ear: Ear) -> None:
    ear.watch("")
    ear.watch("")
    assert ear.heard() == set()
    assert ear.watches.count("R") == 1


@pytest.mark.parametrize("name", ["line\nfeed", "größe"])
def test_any_name_is_heard(ear: Ear, name: str) -> None:
    ear.watch("")
    (ear.root / name).mkdir()
    assert ear.heard() == {("", False), (name, True)}


def test_a_directory_whose_name_is_not_utf8_is_an_entry_of_the_one_that_it_is_in_and_no_more(ear: Ear) -> None:
    ear.watch("")
    os.mkdir(os.fsencode(ear.root) + b"/caf\xe9")
    assert ear.heard() == {("", False)}


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "new").mkdir(),
        lambda root: shutil.copytree(root / "old", root / "new"),
        lambda root: (root.parent / "elsewhere").rename(root / "new"),
    ],
    ids=["made", "copied", "moved in"],
)
def test_a_new_directory_hints_at_its_tree(ear: Ear, change: Callable[[Path], None]) -> None:
    write(ear.root, {"old/a/b": ""})
    (ear.root.parent / "elsewhere").mkdir()
    ear.watch("")
    change(ear.root)
    assert ear.heard() == {("", False), ("new", True)}


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
    ear: Ear, watched: tuple[str, ...], change: Callable[[Path], None]
) -> None:
    (ear.root / "d/e").mkdir(parents=True)
    ear.watch(*watched)
    change(ear.root)
    assert ear.heard() == {("d", False), ("d/e", True)}


def test_of_a_renamed_directory_both_names_are_hinted(ear: Ear) -> None:
    (ear.root / "old").mkdir()
    ear.watch("")
    (ear.root / "old").rename(ear.root / "new")
    assert ear.heard() == {("", False), ("old", True), ("new", True)}


@pytest.mark.parametrize("name", [".gitignore", ".reposyncdignore", ".git"])
def test_a_change_of_the_rules_hints_at_the_tree_that_they_are_for(ear: Ear, name: str) -> None:
    (ear.root / "d").mkdir()
    ear.watch("", "d")
    ear.learn("d", ".*")
    write(ear.root, {f"d/{name}": "*.o"})
    assert ear.heard() == {("d", True)}


def test_a_change_of_the_rules_is_not_lost_among_other_files(ear: Ear) -> None:
    ear.watch("")
    ear.release.clear()
    write(ear.root, {"first": ""})
    assert ear.held.wait(AMPLE_S)
    write(ear.root, {"a": "", "b": "", ".gitignore": "a", "c": ""})
    ear.release.set()
    assert ear.heard() == {("", False), ("", True)}


def test_a_repository_that_is_made_hints_at_its_tree(ear: Ear) -> None:
    (ear.root / "d").mkdir()
    ear.watch("", "d")
    (ear.root / "d/.git").mkdir()
    assert ear.heard() == {("d", True)}


@pytest.mark.parametrize("path", ["", "d"])
def test_ignored_names_are_silent(ear: Ear, path: str) -> None:
    (ear.root / "d").mkdir()
    ear.watch("", "d")
    ear.learn(path, "*.o build/ .hidden")
    top = ear.root / path
    (top / "build").mkdir()
    (top / "build").chmod(0o700)
    write(top, {"a.o": "", ".hidden": "x"})
    (top / "a.o").rename(top / "b.o")
    assert ear.heard() == set()
    write(top, {"a.o": "again", "a.c": ""})
    assert ear.heard() == {(path, False)}
    (top / "build").rename(top / "kept")
    assert ear.heard() == {(path, False), (f"{path}/kept".lstrip("/"), True)}


def test_a_file_is_not_ignored_by_a_pattern_for_directories(ear: Ear) -> None:
    ear.watch("")
    ear.learn("", "build/")
    write(ear.root, {"build": ""})
    assert ear.heard() == {("", False)}


def test_rules_are_forgotten_when_a_directory_is_watched_again(ear: Ear) -> None:
    ear.watch("")
    ear.learn("", "*.o")
    ear.watch("")
    write(ear.root, {"a.o": ""})
    assert ear.heard() == {("", False)}


def test_rules_of_a_directory_that_is_not_watched_are_of_no_effect(ear: Ear) -> None:
    ear.learn("", "*.o")
    ear.watch("")
    ear.learn("d", "*.o")
    write(ear.root, {"a.o": ""})
    assert ear.heard() == {("", False)}


def test_a_renamed_directory_is_known_by_its_new_path(ear: Ear) -> None:
    (ear.root / "old/inner").mkdir(parents=True)
    ear.watch("", "old", "old/inner")
    (ear.root / "old").rename(ear.root / "new")
    ear.watch("new", "new/inner")
    assert ear.watches.count("R") == 3
    ear.watches.prune("R", ["old"], ())
    assert ear.watches.count("R") == ear.watches.total() == 3
    ear.heard()
    write(ear.root, {"new/inner/a": ""})
    assert ear.heard() == {("new/inner", False)}


def test_directories_that_swap_their_names_are_both_watched(ear: Ear) -> None:
    write(ear.root, {"a/of-a": "", "b/of-b": ""})
    ear.watch("", "a", "b")
    (ear.root / "a").rename(ear.root / "c")
    (ear.root / "b").rename(ear.root / "a")
    (ear.root / "c").rename(ear.root / "b")
    ear.watch("a", "b")
    ear.heard()
    assert ear.watches.count("R") == ear.watches.total() == 3
    write(ear.root, {"a/of-b": "x"})
    assert ear.heard() == {("a", False)}
    write(ear.root, {"b/of-a": "x"})
    assert ear.heard() == {("b", False)}


def test_a_directory_in_the_place_of_another_is_watched_instead_of_it(ear: Ear) -> None:
    (ear.root / "d").mkdir()
    ear.watch("", "d")
    (ear.root / "d").rename(ear.root.parent / "out")
    (ear.root / "d").mkdir()
    ear.watch("d")
    ear.heard()
    write(ear.root.parent, {"out/a": ""})
    assert ear.heard() == set()
    write(ear.root, {"d/a": ""})
    assert ear.heard() == {("d", False)}
    assert ear.watches.total() == 2


def test_what_was_moved_out_is_silent_when_it_has_been_pruned(ear: Ear) -> None:
    (ear.root / "d/e").mkdir(parents=True)
    ear.watch("", "d", "d/e")
    (ear.root / "d").rename(ear.root.parent / "out")
    ear.watches.prune("R", ["d"], ())
    ear.heard()
    write(ear.root.parent, {"out/a": "", "out/e/a": ""})
    (ear.root.parent / "out").rename(ear.root.parent / "farther")
    assert ear.heard() == set()
    assert ear.watches.count("R") == ear.watches.total() == 1


@pytest.mark.parametrize(
    ("tops", "keep", "left"),
    [
        ([""], (), set()),
        ([""], {"", "d"}, {"", "d"}),
        (["d"], (), {"", "d2", "x", "x/d"}),
        (["d"], {"d/e"}, {"", "d/e", "d2", "x", "x/d"}),
        (["d/e", "x"], (), {"", "d", "d2"}),
        (["nothing"], (), {"", "d", "d/e", "d2", "x", "x/d"}),
        ([], (), {"", "d", "d/e", "d2", "x", "x/d"}),
    ],
)
def test_pruning_takes_what_is_below_the_tops_and_not_kept(
    ear: Ear, tops: list[str], keep: set[str], left: set[str]
) -> None:
    paths = ("", "d", "d/e", "d2", "x", "x/d")
    for path in paths:
        write(ear.root / path, {"file": ""})
    ear.watch(*paths)
    ear.watches.prune("R", tops, keep)
    assert ear.watches.count("R") == ear.watches.total() == len(left)
    for path in paths:
        write(ear.root / path, {"file": "changed"})
    assert ear.heard() == {(path, False) for path in left}


def test_pruning_more_directories_than_the_queue_holds_events_does_not_overflow_it(ear: Ear) -> None:
    many = most_queued_events() + 1000
    top = ear.root / "many"
    for number in range(many):
        (top / f"{number % 100}/{number}").mkdir(parents=True)
    for path in top.glob("*/*"):
        with opened(path) as fd:
            assert ear.watches.watch("R", str(path.relative_to(ear.root)), fd) == 0
    assert ear.watches.count("R") == many
    ear.watches.prune("R", ["many"], ())
    assert ear.heard() == set()
    assert ear.watches.total() == ear.overflows == 0


def test_a_dropped_root_is_silent_and_may_come_back(ear: Ear) -> None:
    ear.watch("")
    ear.watches.drop("R")
    ear.watches.drop("R")
    write(ear.root, {"a": ""})
    assert ear.heard() == set()
    assert ear.watches.count("R") == ear.watches.total() == 0
    ear.watch("")
    write(ear.root, {"a": "x"})
    assert ear.heard() == {("", False)}


def test_of_an_unknown_root_nothing_is_known(ear: Ear) -> None:
    ear.watches.prune("other", [""], ())
    ear.watches.drop("other")
    ear.watches.learn("other", "", rules_of("a"))
    assert ear.watches.count("other") == 0
    assert ear.watches.unwatched("other") == {}


@pytest.mark.parametrize(
    "change",
    [
        lambda root: root.rename(root.parent / "out"),
        lambda root: root.rmdir(),
        lambda root: root.chmod(0o700),
    ],
    ids=["moved", "deleted", "chmod"],
)
def test_what_happens_to_the_root_itself_is_heard(ear: Ear, change: Callable[[Path], None]) -> None:
    ear.watch("")
    change(ear.root)
    assert ear.heard() == {("", True)}
    assert ear.watches.count("R") == (1 if (ear.root.parent / "out").exists() or ear.root.exists() else 0)


def test_two_roots_may_share_directories(ear: Ear) -> None:
    (ear.root / "d/e").mkdir(parents=True)
    ear.watch("", "d", "d/e")
    ear.watch("", "e", root="inner", top=ear.root / "d")
    assert (ear.watches.count("R"), ear.watches.count("inner"), ear.watches.total()) == (3, 2, 3)

    ear.watches.learn("inner", "e", rules_of("*.o"))
    write(ear.root, {"d/e/a.o": ""})
    assert ear.watches.settle(AMPLE_S)
    assert set(ear.hints) == {("R", "d/e", False)}
    ear.hints.clear()
    write(ear.root, {"d/e/a.c": ""})
    assert ear.watches.settle(AMPLE_S)
    assert set(ear.hints) == {("R", "d/e", False), ("inner", "e", False)}
    ear.hints.clear()

    ear.watches.drop("inner")
    assert ear.watches.total() == 3
    write(ear.root, {"d/e/a.o": "x"})
    assert ear.heard() == {("d/e", False)}


def test_a_root_that_shares_a_directory_does_not_take_it_along(ear: Ear) -> None:
    (ear.root / "d").mkdir()
    ear.watch("", "d")
    ear.watch("", root="inner", top=ear.root / "d")
    ear.watches.drop("R")
    write(ear.root, {"d/a": ""})
    assert ear.watches.settle(AMPLE_S)
    assert set(ear.hints) == {("inner", "", False)}
    shutil.rmtree(ear.root)
    assert ear.watches.settle(AMPLE_S)
    assert ("inner", "", True) in ear.hints
    assert ear.watches.total() == 0


def test_a_deep_directory_beyond_any_path_is_watched(ear: Ear) -> None:
    names = ["n" * 250] * 20
    fd = os.open(ear.root, OPEN_DIRECTORY)
    for name in names:
        os.mkdir(name, dir_fd=fd)
        outer, fd = fd, os.open(name, OPEN_DIRECTORY, dir_fd=fd)
        os.close(outer)
    try:
        path = "/".join(names)
        assert ear.watches.watch("R", path, fd) == 0
        os.mkdir("inner", dir_fd=fd)
        assert ear.heard() == {(path, False), (path + "/inner", True)}
    finally:
        os.close(fd)
        ear.watches.drop("R")


def test_it_is_the_open_directory_that_is_watched_whatever_is_at_its_path_now(ear: Ear) -> None:
    (ear.root / "d").mkdir()
    write(ear.root.parent, {"secret/a": ""})
    with opened(ear.root / "d") as fd:
        (ear.root / "d").rename(ear.root / "moved")
        (ear.root / "d").symlink_to(ear.root.parent / "secret")
        assert ear.watches.watch("R", "d", fd) == 0
    write(ear.root.parent, {"secret/a": "x"})
    assert ear.heard() == set()
    write(ear.root, {"moved/a": ""})
    assert ear.heard() == {("d", False)}


def test_a_file_cannot_be_watched(ear: Ear) -> None:
    write(ear.root, {"a": ""})
    fd = os.open(ear.root / "a", os.O_RDONLY)
    try:
        assert ear.watches.watch("R", "a", fd) == errno.ENOTDIR
    finally:
        os.close(fd)
    assert ear.watches.unwatched("R") == {"a": errno.ENOTDIR}


def test_a_directory_that_may_not_be_watched_is_noted_until_it_can_be(ear: Ear) -> None:
    (ear.root / "d").mkdir()
    (ear.root / "d2").mkdir()
    assert ear.watch("", "d") == [0, 0]
    with opened(ear.root / "d") as fd, opened(ear.root / "d2") as fd2:
        (ear.root / "d").chmod(0)
        (ear.root / "d2").chmod(0)
        with as_somebody_else():
            assert ear.watches.watch("R", "d", fd) == errno.EACCES
            assert ear.watches.watch("R", "d2", fd2) == errno.EACCES
        assert ear.watches.unwatched("R") == {"d": errno.EACCES, "d2": errno.EACCES}
        assert ear.watches.count("R") == ear.watches.total() == 1
        (ear.root / "d").chmod(0o700)
        assert ear.watches.watch("R", "d", fd) == 0
        assert ear.watches.unwatched("R") == {"d2": errno.EACCES}
        assert ear.watches.count("R") == 2
    (ear.root / "d2").chmod(0o700)
    ear.watches.prune("R", ["d2"], ())
    assert ear.watches.unwatched("R") == {}


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


def most_queued_events() -> int:
    number = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if number > MOST_EVENTS_TO_MAKE:
        pytest.skip(f"the queue holds {number} events here: filling it takes too long")
    return number


def overflow(ear: Ear) -> None:
    """Leaves the reader in a hint, and the queue full."""
    write(ear.root, {"a": "", "b": ""})
    ear.watch("")
    ear.release.clear()
    (ear.root / "a").chmod(0o600)
    assert ear.held.wait(AMPLE_S)
    for number in range(most_queued_events() // 2 + 1):
        (ear.root / "a").chmod(0o600 + number % 2)
        (ear.root / "b").chmod(0o600 + number % 2)


def test_an_overflow_is_told_and_the_watches_live_on(ear: Ear) -> None:
    (ear.root / "d").mkdir()
    ear.watch("d")
    overflow(ear)
    ear.release.set()
    ear.heard()
    assert ear.overflows == 1
    assert ear.watches.count("R") == 2
    write(ear.root, {"d/new": ""})
    assert ear.heard() == {("d", False)}
    assert ear.overflows == 1


def test_to_settle_during_an_overflow_is_to_have_told_of_it(ear: Ear) -> None:
    overflow(ear)
    answers: list[tuple[bool, int]] = []
    settling = threading.Thread(target=lambda: answers.append((ear.watches.settle(AMPLE_S), ear.overflows)))
    settling.start()
    with opened(ear.cookies) as fd:
        poll = threading.Event()
        while not os.listdir(fd):  # the cookie of which the queue does not take the event
            poll.wait(0.001)
    ear.release.set()
    settling.join(AMPLE_S)
    assert answers == [(True, 1)]


def test_to_settle_is_to_have_told_of_everything_before(ear: Ear) -> None:
    ear.watch("")
    for number in range(200):
        name = f"d{number}"
        (ear.root / name).mkdir()
        assert ear.watches.settle(AMPLE_S)
        assert ("R", name, True) in ear.hints
    assert os.listdir(ear.cookies) == []


def test_settling_gives_up_when_it_takes_too_long(ear: Ear) -> None:
    ear.watch("")
    ear.release.clear()
    write(ear.root, {"a": ""})
    assert ear.held.wait(AMPLE_S)
    assert not ear.watches.settle(0.01)
    assert os.listdir(ear.cookies) == []
    ear.release.set()
    assert ear.watches.settle(AMPLE_S)


def test_many_may_settle_at_once(ear: Ear) -> None:
    ear.watch("")
    answers: list[bool] = []
    threads = [threading.Thread(target=lambda: answers.append(ear.watches.settle(AMPLE_S))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(AMPLE_S)
    assert answers == [True] * 20
    assert ear.heard() == set()


def test_the_directory_of_cookies_is_private_and_swept_and_comes_back(tmp_path: Path) -> None:
    write(tmp_path, {"other/cookies/settle-0123": "", "other/cookies/mine": ""})
    watches = Watches(
        str(tmp_path / "other/cookies"), on_hint=lambda *_: None, on_overflow=lambda: None, on_death=lambda _: None
    )
    watches.close()
    assert os.listdir(tmp_path / "other/cookies") == ["mine"]
    ear = Ear(tmp_path)
    assert ear.cookies.stat().st_mode & 0o777 == 0o700
    ear.cookies.rmdir()
    assert ear.watches.settle(AMPLE_S)
    ear.cookies.rename(tmp_path / "moved")
    assert ear.watches.settle(AMPLE_S)
    shutil.rmtree(ear.cookies)
    ear.cookies.touch()
    with pytest.raises(FileExistsError):
        ear.watches.settle(AMPLE_S)
    assert ear.deaths == []
    ear.watches.close()


def test_cookies_within_a_root_are_not_heard(tmp_path: Path) -> None:
    ear = Ear(tmp_path)
    ear.watch("", "cookies", top=tmp_path)
    assert ear.heard() == set()
    ear.watches.drop("R")
    assert ear.heard() == set()
    ear.watches.close()


def test_a_hint_that_raises_ends_the_reader_which_is_told_once(ear: Ear) -> None:
    ear.watch("")
    before = open_descriptors()
    ear.broken = ValueError("no such thing")
    write(ear.root, {"a": ""})
    assert ear.died.wait(AMPLE_S)
    assert ear.deaths == ["ValueError"]
    assert open_descriptors() == before - 3  # inotify's, and the pipe by which the reader would be told to end
    with pytest.raises(OSError, match="ValueError"):
        ear.watches.settle(AMPLE_S)
    assert ear.watch("") == [errno.EBADF]
    assert ear.watches.unwatched("R") == {"": errno.EBADF}
    assert ear.watches.count("R") == ear.watches.total() == 0
    ear.watches.learn("R", "", rules_of("a"))
    ear.watches.prune("R", [""], ())
    ear.watches.drop("R")
    ear.watches.close()
    ear.watches.close()
    assert threads_that_read() == 0
    assert ear.deaths == ["ValueError"]


def test_who_settles_learns_of_the_death_at_once(ear: Ear) -> None:
    ear.watch("")
    ear.release.clear()
    write(ear.root, {"a": ""})
    assert ear.held.wait(AMPLE_S)
    errors: list[str] = []

    def settle() -> None:
        try:
            ear.watches.settle(1000 * AMPLE_S)
        except OSError as error:
            errors.append(str(error))

    settling = threading.Thread(target=settle)
    settling.start()
    poll = threading.Event()
    while not os.listdir(ear.cookies):
        poll.wait(0.001)
    ear.broken = ValueError("no such thing")
    write(ear.root, {"d/a": ""})
    ear.release.set()
    settling.join(AMPLE_S)
    assert len(errors) == 1
    assert "ValueError" in errors[0]


def test_closing_frees_everything_and_ends_the_hints(ear: Ear) -> None:
    before = open_descriptors(), threads_that_read()
    other = Ear(ear.root)
    other.watch("")
    assert other.heard() == set()
    other.watches.close()
    other.watches.close()
    write(other.root, {"a": ""})
    assert (open_descriptors(), threads_that_read()) == before
    assert (other.hints, other.deaths) == ([], [])
    with pytest.raises(OSError, match="closed"):
        other.watches.settle(AMPLE_S)


def test_the_reader_may_close(tmp_path: Path) -> None:
    closed = threading.Event()

    def close(root: str, path: str, recursive: bool) -> None:
        watches.close()
        closed.set()

    before = open_descriptors()
    watches = Watches(
        str(tmp_path / "cookies"), on_hint=close, on_overflow=lambda: None, on_death=lambda why: pytest.fail(why)
    )
    (tmp_path / "root").mkdir()
    with opened(tmp_path / "root") as fd:
        watches.watch("R", "", fd)
    write(tmp_path, {"root/a": ""})
    assert closed.wait(AMPLE_S)
    watches.close()
    assert open_descriptors() == before


def test_other_programs_do_not_inherit_the_descriptor(ear: Ear) -> None:
    mine = [fd for fd in os.listdir("/proc/self/fd") if is_of_inotify(int(fd))]
    assert mine
    assert not [fd for fd in mine if os.get_inheritable(int(fd))]


def is_of_inotify(fd: int) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{fd}") == "anon_inode:inotify"
    except FileNotFoundError:  # that of the listing itself
        return False


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def threads_that_read() -> int:
    return sum(thread.name == "inotify" for thread in threading.enumerate())


@pytest.mark.parametrize("left", range(4))
def test_without_descriptors_to_be_had_none_is_lost(tmp_path: Path, left: int) -> None:
    """Of the three that are needed, and one to sweep the cookies."""
    before = open_descriptors(), threads_that_read()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))
    try:
        with suppress(OSError):
            while True:
                taken.append(os.dup(0))
        for _ in range(left):
            os.close(taken.pop())
        with pytest.raises(OSError) as caught:
            Ear(tmp_path)
        assert caught.value.errno == errno.EMFILE
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in taken:
            os.close(fd)
    assert (open_descriptors(), threads_that_read()) == before


SCRIPT = """
import errno, json, os, sys
from reposyncd.tree.watch import Watches

hints = []
def hint(*each):
    hints.append(each)

def make():
    return Watches(sys.argv[1] + "/cookies", on_hint=hint, on_overflow=sys.exit, on_death=print)

def watch(path):
    fd = os.open(sys.argv[1] + "/" + path, os.O_RDONLY)
    answer = watches.watch(sys.argv[1], path, fd)
    os.close(fd)
    return answer
"""


def run_under(setup: str, script: str, top: Path) -> object:
    """What the script prints as JSON, run as root of a user namespace after the shell commands of `setup`."""
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec"]
    try:
        tried = subprocess.run([*command, "test -w /proc/sys/user/max_inotify_watches"], capture_output=True)
    except FileNotFoundError:
        pytest.skip("there is no unshare here")
    if tried.returncode != 0:
        pytest.skip(f"no user namespace can be made here: {tried.stderr.decode().strip()}")
    arguments = [f'{setup}; exec "$@"', "sh", sys.executable, "-c", SCRIPT + script, str(top)]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=AMPLE_S)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_at_the_limit_of_watches_those_that_are_missing_are_named(tmp_path: Path) -> None:
    write(tmp_path, {f"{name}/a": "" for name in "abcd"})
    script = """
watches = make()
answers = [watch(name) for name in "abcd"]
first = answers, watches.unwatched(sys.argv[1]), watches.count(sys.argv[1])
watches.prune(sys.argv[1], ["a"], ())
again = watch("d"), watches.unwatched(sys.argv[1]), watches.settle(30)
print(json.dumps([first, again]))
watches.close()
"""
    full = errno.ENOSPC
    assert run_under("echo 3 > /proc/sys/user/max_inotify_watches", script, tmp_path) == [
        [[0, 0, full, full], {"c": full, "d": full}, 2],
        [0, {"c": full}, True],
    ]


@pytest.mark.parametrize(("limit", "expected"), [("watches", errno.ENOSPC), ("instances", errno.EMFILE)])
def test_it_says_so_when_nothing_at_all_can_be_watched(tmp_path: Path, limit: str, expected: int) -> None:
    script = """
before = len(os.listdir("/proc/self/fd"))
try:
    make()
except OSError as error:
    print(json.dumps([error.errno, len(os.listdir("/proc/self/fd")) - before]))
"""
    assert run_under(f"echo 0 > /proc/sys/user/max_inotify_{limit}", script, tmp_path) == [expected, 0]


def test_without_proc_it_is_the_path_that_is_watched(tmp_path: Path) -> None:
    write(tmp_path, {"d/a": "", "link": ""})
    script = """
watches = make()
assert not os.path.exists("/proc/self")
answers = [watch(path) for path in ("", "d")]
os.mkdir(sys.argv[1] + "/d/inner")
print(json.dumps([answers, watches.settle(30), [hint[1:] for hint in hints]]))
watches.close()
"""
    expected = [[0, 0], True, [["d", False], ["d/inner", True]]]
    assert run_under("mount -t tmpfs none /proc", script, tmp_path) == expected


def test_a_root_that_is_unmounted_is_heard(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    script = """
import subprocess
watches = make()
answer = watch("d")
watches.watch("R", "", fd := os.open(sys.argv[1] + "/d", os.O_RDONLY))
os.close(fd)
subprocess.run(["umount", sys.argv[1] + "/d"], check=True)
print(json.dumps([answer, watches.settle(30), sorted({hint[1:] for hint in hints}), watches.total()]))
watches.close()
"""
    expected = [0, True, [["", True], ["d", True]], 0]
    assert run_under(f"mount -t tmpfs none {tmp_path}/d", script, tmp_path) == expected


def test_nothing_but_the_daemon_pays_for_the_import_of_watchdog() -> None:
    script = "import sys, reposyncd.cli, reposyncd.app.workspace, reposyncd.tree.scan; print('watchdog' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


class Mirror:
    """A listing of the tree that only hints keep up to date."""

    def __init__(self, ear: Ear) -> None:
        self._ear = ear
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


def test_who_follows_the_hints_ends_up_with_the_tree_as_it_is(ear: Ear) -> None:
    mirror = Mirror(ear)
    with opened(ear.root) as top:
        mirror.list(top, "", True)
    chance = random.Random(7)
    letters = "abcd"

    def path() -> Path:
        return ear.root.joinpath(*(chance.choice(letters) for _ in range(chance.randint(1, 4))))

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
    for directory, inner, files in os.walk(ear.root):
        sizes = {name: str(Path(directory, name).stat().st_size).encode() for name in files}
        expected[os.path.relpath(directory, ear.root).removeprefix(".")] = {**dict.fromkeys(inner), **sizes}
    assert mirror.known == expected
    assert ear.watches.count("R") == ear.watches.total() == len(expected)
