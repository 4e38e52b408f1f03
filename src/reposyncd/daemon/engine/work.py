"""Work that was requested from the engine, as its caller sees it. Thread-safe."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from reposyncd.app.facade import OnProgress
from reposyncd.errors import ReposyncError, TimedOutError

PROGRESS_S = 0.5
"""How often a caller that waits for a result gets the progress."""


class Work:
    """A `ports.ServiceTask`. `progress` returns what is still to be done, as a `messages.TaskProgress`; it is called in
    any thread."""

    def __init__(self, progress: Callable[[], Mapping[str, Any]]) -> None:
        self._progress = progress
        self._is_wanted = True
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._listeners: list[Callable[[], None]] = []
        self._result: Any = {}
        self._error: ReposyncError | None = None

    @property
    def is_wanted(self) -> bool:
        """Whether anybody may still ask for the result."""
        return self._is_wanted

    def wait(self, timeout_s: float) -> bool:
        """Waits for at most this time until the work has ended. Returns whether it has."""
        return self._ended.wait(timeout_s)

    def on_end(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Calls `callback` once when the work ends, in the thread that ends it; at once if it has ended. The callback
        must return at once and raise nothing. Returns a function that cancels it."""
        with self._lock:
            if not self._ended.is_set():
                self._listeners.append(callback)
                return lambda: self._drop(callback)
        callback()
        return lambda: None

    def result(self, on_progress: OnProgress | None = None, timeout_s: float | None = None) -> Any:
        """The result, once the work has ended: JSON of the type that `ports.Service` promises. See `facade.Task`."""
        deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
        while not self.wait(max(0.0, min(PROGRESS_S, deadline - time.monotonic()))):
            if on_progress:
                on_progress(self.progress())
            if time.monotonic() >= deadline:
                raise TimedOutError(f"timed out after {timeout_s:g} s; the service continues with it")
        if self._error is not None:
            raise self._error
        return self._result

    def progress(self) -> Any:
        """What is still to be done, as a `messages.TaskProgress`."""
        return self._progress()

    def abandon(self) -> None:
        """Nobody will ask for the result. Work that changes nothing, and has not begun, can be skipped."""
        self._is_wanted = False

    def done(self, result: Any) -> None:
        """Ends the work with this result. Does nothing if it has ended already."""
        self._end(result, None)

    def fail(self, error: ReposyncError) -> None:
        """Ends the work with this error. Does nothing if it has ended already."""
        self._end({}, error)

    def end_as(self, other: Work) -> None:
        """Lets this work end when the other one does, in the same way."""
        other.on_end(lambda: self._end(other._result, other._error))

    def fail_with(self, other: Work) -> None:
        """Lets this work fail if the other one, which prepares it, fails."""

        def fail() -> None:
            if other._error is not None:
                self.fail(other._error)

        other.on_end(fail)

    def _end(self, result: Any, error: ReposyncError | None) -> None:
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
    """Work that is done when each of several repositories has been synced. One thread reports that."""

    def __init__(self, repos: Iterable[str], progress: Callable[[], Mapping[str, Any]]) -> None:
        super().__init__(progress)
        self._repos = sorted(repos)
        self._left = set(self._repos)
        self._errors: list[dict[str, str]] = []
        self._end_if_done()

    def is_current(self, repo: str, errors: Iterable[dict[str, str]] = ()) -> None:
        """Every change that was made to the repository before the flush is indexed, except those to these files."""
        self._errors += errors
        self._left.discard(repo)
        self._end_if_done()

    def _end_if_done(self) -> None:
        if not self._left:
            self.done({"repos": self._repos, "errors": self._errors})
