"""Watches that are listened to: what the tests of `tree.watch` and `tree.inotify` share."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reposyncd.tree.directory import OPEN_DIRECTORY
from reposyncd.tree.ignore import IgnoreRules
from reposyncd.tree.watch import Watches

AMPLE_S = 30.0
"""A time-out for what takes milliseconds, unless it is broken."""

MOST_EVENTS_TO_MAKE = 200_000


class Listener:
    """Watches, and the hints that they give of the root "R". While `release` is cleared, a hint blocks the reader, and
    `held` is set."""

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
        """Watches the directories, forgets all hints, and returns the errnos."""
        answers = []
        for path in paths:
            with opened((top or self.root) / path) as fd:
                answers.append(self.watches.watch(root, path, fd))
        self.hints.clear()
        return answers

    def heard(self) -> set[tuple[str, bool]]:
        """(path, recursive) of all hints since the last call."""
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


def most_queued_events() -> int:
    number = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if number > MOST_EVENTS_TO_MAKE:
        pytest.skip(f"the queue holds {number} events here: filling it takes too long")
    return number


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def threads_that_read() -> int:
    return sum(thread.name == "inotify" for thread in threading.enumerate())
