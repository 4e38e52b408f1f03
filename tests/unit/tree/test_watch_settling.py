"""Waiting until all earlier events were reported, also when the queue overflows."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import pytest

from reposyncd.tree.watch import Watches
from tests.support import write
from tests.unit.tree.listening import (
    AMPLE_S,
    Listener,
    most_queued_events,
    opened,
)


def overflow(listener: Listener) -> None:
    """Leaves the reader in a hint, and the queue full."""
    write(listener.root, {"a": "", "b": ""})
    listener.watch("")
    listener.release.clear()
    (listener.root / "a").chmod(0o600)
    assert listener.held.wait(AMPLE_S)
    for number in range(most_queued_events() // 2 + 1):
        (listener.root / "a").chmod(0o600 + number % 2)
        (listener.root / "b").chmod(0o600 + number % 2)


def test_an_overflow_is_told_and_the_watches_live_on(listener: Listener) -> None:
    (listener.root / "d").mkdir()
    listener.watch("d")
    overflow(listener)
    listener.release.set()
    listener.heard()
    assert listener.overflows == 1
    assert listener.watches.count("R") == 2
    write(listener.root, {"d/new": ""})
    assert listener.heard() == {("d", False)}
    assert listener.overflows == 1


def test_to_settle_during_an_overflow_is_to_have_told_of_it(listener: Listener) -> None:
    overflow(listener)
    answers: list[tuple[bool, int]] = []
    settling = threading.Thread(target=lambda: answers.append((listener.watches.settle(AMPLE_S), listener.overflows)))
    settling.start()
    with opened(listener.cookies) as fd:
        poll = threading.Event()
        while not os.listdir(fd):  # the cookie of which the queue does not take the event
            poll.wait(0.001)
    listener.release.set()
    settling.join(AMPLE_S)
    assert answers == [(True, 1)]


def test_to_settle_is_to_have_told_of_everything_before(listener: Listener) -> None:
    listener.watch("")
    for number in range(200):
        name = f"d{number}"
        (listener.root / name).mkdir()
        assert listener.watches.settle(AMPLE_S)
        assert ("R", name, True) in listener.hints
    assert os.listdir(listener.cookies) == []


def test_settling_gives_up_when_it_takes_too_long(listener: Listener) -> None:
    listener.watch("")
    listener.release.clear()
    write(listener.root, {"a": ""})
    assert listener.held.wait(AMPLE_S)
    assert not listener.watches.settle(0.01)
    assert os.listdir(listener.cookies) == []
    listener.release.set()
    assert listener.watches.settle(AMPLE_S)


def test_many_may_settle_at_once(listener: Listener) -> None:
    listener.watch("")
    answers: list[bool] = []
    threads = [threading.Thread(target=lambda: answers.append(listener.watches.settle(AMPLE_S))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(AMPLE_S)
    assert answers == [True] * 20
    assert listener.heard() == set()


def test_the_directory_of_cookies_is_private_and_swept_and_comes_back(tmp_path: Path) -> None:
    write(tmp_path, {"other/cookies/settle-0123": "", "other/cookies/mine": ""})
    watches = Watches(
        str(tmp_path / "other/cookies"), on_hint=lambda *_: None, on_overflow=lambda: None, on_death=lambda _: None
    )
    watches.close()
    assert os.listdir(tmp_path / "other/cookies") == ["mine"]
    listener = Listener(tmp_path)
    assert listener.cookies.stat().st_mode & 0o777 == 0o700
    listener.cookies.rmdir()
    assert listener.watches.settle(AMPLE_S)
    listener.cookies.rename(tmp_path / "moved")
    assert listener.watches.settle(AMPLE_S)
    shutil.rmtree(listener.cookies)
    listener.cookies.touch()
    with pytest.raises(FileExistsError):
        listener.watches.settle(AMPLE_S)
    assert listener.deaths == []
    listener.watches.close()


def test_cookies_within_a_root_are_not_heard(tmp_path: Path) -> None:
    listener = Listener(tmp_path)
    listener.watch("", "cookies", top=tmp_path)
    assert listener.heard() == set()
    listener.watches.drop("R")
    assert listener.heard() == set()
    listener.watches.close()


def test_who_settles_learns_of_the_death_at_once(listener: Listener) -> None:
    listener.watch("")
    listener.release.clear()
    write(listener.root, {"a": ""})
    assert listener.held.wait(AMPLE_S)
    errors: list[str] = []

    def settle() -> None:
        try:
            listener.watches.settle(1000 * AMPLE_S)
        except OSError as error:
            errors.append(str(error))

    settling = threading.Thread(target=settle)
    settling.start()
    poll = threading.Event()
    while not os.listdir(listener.cookies):
        poll.wait(0.001)
    listener.broken = ValueError("no such thing")
    write(listener.root, {"d/a": ""})
    listener.release.set()
    settling.join(AMPLE_S)
    assert len(errors) == 1
    assert "ValueError" in errors[0]
