"""Watches of whole trees: pruning, dropping, and roots that share directories."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import write
from tests.unit.tree.listening import (
    AMPLE_S,
    Listener,
    most_queued_events,
    opened,
    rules_of,
)


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
    listener: Listener, tops: list[str], keep: set[str], left: set[str]
) -> None:
    paths = ("", "d", "d/e", "d2", "x", "x/d")
    for path in paths:
        write(listener.root / path, {"file": ""})
    listener.watch(*paths)
    listener.watches.prune("R", tops, keep)
    assert listener.watches.count("R") == listener.watches.total() == len(left)
    for path in paths:
        write(listener.root / path, {"file": "changed"})
    assert listener.heard() == {(path, False) for path in left}


def test_pruning_more_directories_than_the_queue_holds_events_does_not_overflow_it(listener: Listener) -> None:
    many = most_queued_events() + 1000
    top = listener.root / "many"
    for number in range(many):
        (top / f"{number % 100}/{number}").mkdir(parents=True)
    for path in top.glob("*/*"):
        with opened(path) as fd:
            assert listener.watches.watch("R", str(path.relative_to(listener.root)), fd) == 0
    assert listener.watches.count("R") == many
    listener.watches.prune("R", ["many"], ())
    assert listener.heard() == set()
    assert listener.watches.total() == listener.overflows == 0


def test_a_dropped_root_is_silent_and_may_come_back(listener: Listener) -> None:
    listener.watch("")
    listener.watches.drop("R")
    listener.watches.drop("R")
    write(listener.root, {"a": ""})
    assert listener.heard() == set()
    assert listener.watches.count("R") == listener.watches.total() == 0
    listener.watch("")
    write(listener.root, {"a": "x"})
    assert listener.heard() == {("", False)}


def test_of_an_unknown_root_nothing_is_known(listener: Listener) -> None:
    listener.watches.prune("other", [""], ())
    listener.watches.drop("other")
    listener.watches.learn("other", "", rules_of("a"))
    assert listener.watches.count("other") == 0
    assert listener.watches.unwatched("other") == {}


@pytest.mark.parametrize(
    "change",
    [
        lambda root: root.rename(root.parent / "out"),
        lambda root: root.rmdir(),
        lambda root: root.chmod(0o700),
    ],
    ids=["moved", "deleted", "chmod"],
)
def test_what_happens_to_the_root_itself_is_heard(listener: Listener, change: Callable[[Path], None]) -> None:
    listener.watch("")
    change(listener.root)
    assert listener.heard() == {("", True)}
    assert listener.watches.count("R") == (
        1 if (listener.root.parent / "out").exists() or listener.root.exists() else 0
    )


def test_two_roots_may_share_directories(listener: Listener) -> None:
    (listener.root / "d/e").mkdir(parents=True)
    listener.watch("", "d", "d/e")
    listener.watch("", "e", root="inner", top=listener.root / "d")
    assert (listener.watches.count("R"), listener.watches.count("inner"), listener.watches.total()) == (3, 2, 3)

    listener.watches.learn("inner", "e", rules_of("*.o"))
    write(listener.root, {"d/e/a.o": ""})
    assert listener.watches.settle(AMPLE_S)
    assert set(listener.hints) == {("R", "d/e", False)}
    listener.hints.clear()
    write(listener.root, {"d/e/a.c": ""})
    assert listener.watches.settle(AMPLE_S)
    assert set(listener.hints) == {("R", "d/e", False), ("inner", "e", False)}
    listener.hints.clear()

    listener.watches.drop("inner")
    assert listener.watches.total() == 3
    write(listener.root, {"d/e/a.o": "x"})
    assert listener.heard() == {("d/e", False)}


def test_a_root_that_shares_a_directory_does_not_take_it_along(listener: Listener) -> None:
    (listener.root / "d").mkdir()
    listener.watch("", "d")
    listener.watch("", root="inner", top=listener.root / "d")
    listener.watches.drop("R")
    write(listener.root, {"d/a": ""})
    assert listener.watches.settle(AMPLE_S)
    assert set(listener.hints) == {("inner", "", False)}
    shutil.rmtree(listener.root)
    assert listener.watches.settle(AMPLE_S)
    assert ("inner", "", True) in listener.hints
    assert listener.watches.total() == 0
