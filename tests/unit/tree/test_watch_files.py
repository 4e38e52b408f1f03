"""Changes of files, and the hints that they cause."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import write
from tests.unit.tree.listening import (
    AMPLE_S,
    Listener,
)


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
def test_a_change_of_a_file_hints_at_its_directory(listener: Listener, change: Callable[[Path], None]) -> None:
    write(listener.root, {"a": "content"})
    write(listener.root.parent, {"elsewhere": ""})
    assert listener.watch("") == [0]
    change(listener.root)
    assert listener.heard() == {("", False)}


def test_the_path_of_a_directory_is_in_its_hints(listener: Listener) -> None:
    write(listener.root, {"d/e/a": "", "d/b": ""})
    listener.watch("", "d", "d/e")
    write(listener.root, {"d/e/a": "x"})
    assert listener.heard() == {("d/e", False)}
    write(listener.root, {"d/b": "x"})
    assert listener.heard() == {("d", False)}


def test_an_atomic_save_beside_many_others_is_one_hint(listener: Listener) -> None:
    listener.watch("")
    listener.release.clear()
    write(listener.root, {"first": ""})
    assert listener.held.wait(AMPLE_S)
    for number in range(100):
        (listener.root / "tmp").write_text("content")
        (listener.root / "tmp").replace(listener.root / f"a{number}")
    listener.release.set()
    assert listener.watches.settle(AMPLE_S)
    assert len(listener.hints) == 2  # of the first event, and of the rest in one buffer


def test_what_is_written_and_not_closed_is_heard(listener: Listener) -> None:
    write(listener.root, {"log": ""})
    listener.watch("")
    with (listener.root / "log").open("a") as log:
        listener.heard()
        log.write("line")
        log.flush()
        assert listener.heard() == {("", False)}


def test_what_is_written_to_a_deleted_file_is_not_heard(listener: Listener) -> None:
    write(listener.root, {"log": ""})
    listener.watch("")
    with (listener.root / "log").open("a") as log:
        (listener.root / "log").unlink()
        assert listener.heard() == {("", False)}
        log.write("line")
        log.flush()
        assert listener.heard() == set()


def test_reading_is_not_heard(listener: Listener) -> None:
    write(listener.root, {"a": "content", "d/b": "", ".gitignore": ""})
    listener.watch("", "d")
    for directory, _, names in os.walk(listener.root):
        for name in names:
            path = Path(directory, name)
            path.stat()
            path.read_bytes()
    assert listener.heard() == set()


def test_a_watch_that_is_made_again_is_not_heard(listener: Listener) -> None:
    listener.watch("")
    listener.watch("")
    assert listener.heard() == set()
    assert listener.watches.count("R") == 1


@pytest.mark.parametrize("name", ["line\nfeed", "größe"])
def test_any_name_is_heard(listener: Listener, name: str) -> None:
    listener.watch("")
    (listener.root / name).mkdir()
    assert listener.heard() == {("", False), (name, True)}


def test_a_directory_whose_name_is_not_utf8_is_an_entry_of_the_one_that_it_is_in_and_no_more(
    listener: Listener,
) -> None:
    listener.watch("")
    os.mkdir(os.fsencode(listener.root) + b"/caf\xe9")
    assert listener.heard() == {("", False)}
