"""The phase of the engine (starting, running, stopping, ended), and whether it makes progress."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from reposyncd.errors import DaemonNotRunningError, OverloadedError, ReposyncError


class Lifecycle:
    """The engine opens the state, runs, is asked to stop, and ends. Any thread may call `request_stop` and read the
    properties. Everything else is for the engine's thread."""

    def __init__(self) -> None:
        self._has_begun = self._is_stop_requested = self._has_ended = False
        self._waits_for_lock = ""

    @property
    def has_begun(self) -> bool:
        """Whether the state is open, and the repositories are known."""
        return self._has_begun

    @property
    def waits_for_lock(self) -> str:
        """Which process holds the state lock that the engine waits for, in words; "" if it does not wait."""
        return self._waits_for_lock

    @property
    def is_stop_requested(self) -> bool:
        """Whether the engine was asked to stop. False if it died."""
        return self._is_stop_requested

    @property
    def is_stopping(self) -> bool:
        """Whether it begins no more work: it was asked to stop, or has ended."""
        return self._is_stop_requested or self._has_ended

    def wait_for_lock(self, why: str) -> None:
        """Records why the engine waits for the state lock; "" when it has the lock."""
        self._waits_for_lock = why

    def begin(self) -> None:
        """Records that the state is open."""
        self._has_begun = True

    def request_stop(self) -> None:
        """Asks the engine to stop."""
        self._is_stop_requested = True

    def end(self) -> None:
        """Records that the engine has ended."""
        self._has_ended = True

    @property
    def starting(self) -> str:
        """What to say about an engine that has not begun."""
        return "the engine is starting" + (f"; {self._waits_for_lock}" if self._waits_for_lock else "")

    @property
    def refusal(self) -> ReposyncError:
        """Why an engine that is stopping does not accept a request."""
        if self._is_stop_requested:
            return ReposyncError("the service is stopping")
        return OverloadedError("the engine has died and is being restarted; try again in a few seconds")

    def check_begun(self) -> None:
        """Raises ReposyncError unless the repositories are known and requests are accepted."""
        if self.is_stopping:
            raise self.refusal
        if self._has_begun:
            return
        if self._waits_for_lock:
            raise DaemonNotRunningError(self.starting)  # a command can work without the service
        raise OverloadedError(f"{self.starting}; try again in a few seconds")


class Heartbeat:
    """Says whether a thread makes progress. The thread calls `advance` at least every `stall_s` seconds, or says in
    advance when it will call it next.

    `advance`, `sleep_until` and `allow` are for that thread, `is_responsive` for any thread.
    """

    def __init__(self, stall_s: float) -> None:
        self._stall_s = stall_s
        self._allowed_s = 0.0
        self._expected = time.monotonic() + stall_s
        """the next heartbeat comes before this time, unless the thread hangs"""

    def advance(self) -> None:
        """Records that the thread makes progress."""
        self._expected = time.monotonic() + self._stall_s + self._allowed_s

    def sleep_until(self, when: float) -> None:
        """The thread has nothing to do before `when`, on the monotonic clock."""
        self._expected = when + self._stall_s

    @contextmanager
    def allow(self, seconds: float) -> Iterator[None]:
        """Inside this block, a step may take this many seconds longer."""
        self._allowed_s = seconds
        try:
            yield
        finally:
            self._allowed_s = 0.0
            self.advance()

    @property
    def is_responsive(self) -> bool:
        """Whether the thread makes progress."""
        return time.monotonic() < self._expected
