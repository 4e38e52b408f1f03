"""Work that was asked of the engine, as those see it who asked. Thread-safe."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from reposyncd.app.facade import OnProgress
from reposyncd.errors import ReposyncError, TimedOutError

PROGRESS_S = 0.5
"""How often somebody who waits for a result is told the progress."""


class Work:
    """A `ports.ServiceTask`. `progress` says what is still to do; it is called from any thread."""

    def __init__(self, progress: Callable[[], dict[str, Any]]) -> None:
        self._progress = progress
        self.is_wanted = True
        """whether anybody may still ask for the result"""
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._listeners: list[Callable[[], None]] = []
        self._result: dict[str, Any] = {}
        self._error: ReposyncError | None = None

    def wait(self, timeout_s: float) -> bool:
        """Whether it has ended within that time."""
        return self._ended.wait(timeout_s)

    def on_end(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Has it called once, when this ends, in the thread that ends it; at once, if it has ended. It returns at once,
        and raises nothing. What is returned takes that back."""
        with self._lock:
            if not self._ended.is_set():
                self._listeners.append(callback)
                return lambda: self._drop(callback)
        callback()
        return lambda: None

    def result(self, on_progress: OnProgress | None = None, timeout_s: float | None = None) -> Any:
        """The result, once it has ended: JSON of the type that `ports.Service` promises. See `facade.Task`."""
        deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
        while not self.wait(max(0.0, min(PROGRESS_S, deadline - time.monotonic()))):
            if on_progress:
                on_progress(self.progress())
            if time.monotonic() >= deadline:
                raise TimedOutError(f"timed out after {timeout_s:g} s; the service goes on with it")
        if self._error is not None:
            raise self._error
        return self._result

    def progress(self) -> Any:
        """What is still to do, a `messages.TaskProgress`."""
        return self._progress()

    def abandon(self) -> None:
        """Nobody will ask for the result: whoever is about to do this may leave it, if it would change nothing."""
        self.is_wanted = False

    def done(self, result: dict[str, Any]) -> None:
        """It has ended well. What has ended does not end again."""
        self._end(result, None)

    def fail(self, error: ReposyncError) -> None:
        """It has ended badly."""
        self._end({}, error)

    def hand_on_failure(self, other: Work) -> None:
        """If this fails, the other one, which it was to begin, fails too."""

        def hand_on() -> None:
            if self._error is not None:
                other.fail(self._error)

        self.on_end(hand_on)

    def end_as(self, other: Work) -> None:
        """This ends when the other one does, and as that does."""

        def end() -> None:
            self._end(other._result, other._error)

        other.on_end(end)

    def _end(self, result: dict[str, Any], error: ReposyncError | None) -> None:
        with self._lock:
            if self._ended.is_set():
                return
            self._result, self._error = result, error
            self._ended.set()
            listeners, self._listeners = self._listeners, []
        for callback in listeners:
            callback()

    def _drop(self, callback: Callable[[], None]) -> None:
        with self._lock, suppress(ValueError):
            self._listeners.remove(callback)


class Flush(Work):
    """Done when each of several repos has been brought up to date. One thread tells it so."""

    def __init__(self, repos: Iterable[str], progress: Callable[[], dict[str, Any]]) -> None:
        super().__init__(progress)
        self._repos = sorted(repos)
        self._left = set(self._repos)
        self._errors: list[dict[str, str]] = []
        self.end_if_done()

    def is_current(self, repo: str, errors: Iterable[dict[str, str]] = ()) -> None:
        """Everything that was changed in the repo before the flush is in its index, apart from these files."""
        self._errors += errors
        self._left.discard(repo)
        self.end_if_done()

    def end_if_done(self) -> None:
        """Ends it if no repo is left."""
        if not self._left:
            self.done({"repos": self._repos, "errors": self._errors})
