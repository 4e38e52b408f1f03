"""Which part of its life the engine is in, and whether it advances."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from reposyncd.errors import DaemonNotRunningError, OverloadedError, ReposyncError


class Lifecycle:
    """The engine opens the state, begins, is told to stop, and ends. `tell_to_stop` and all properties are for any
    thread, everything else for the engine's."""

    def __init__(self) -> None:
        self._has_begun = self._is_told_to_stop = self._has_ended = False
        self._waits_for_lock = ""

    @property
    def has_begun(self) -> bool:
        """Whether the state is open, and it is known which repositories there are."""
        return self._has_begun

    @property
    def waits_for_lock(self) -> str:
        """Who has the lock of the state that it waits for, in words; or ""."""
        return self._waits_for_lock

    @property
    def is_told_to_stop(self) -> bool:
        """Whether somebody wants it to stop. False if it has died."""
        return self._is_told_to_stop

    @property
    def is_stopping(self) -> bool:
        """Whether it begins nothing more: it was told to stop, or has ended."""
        return self._is_told_to_stop or self._has_ended

    def wait_for_lock(self, why: str) -> None:
        """The lock of the state is held by somebody else; "": it is ours."""
        self._waits_for_lock = why

    def begin(self) -> None:
        """The state is open."""
        self._has_begun = True

    def tell_to_stop(self) -> None:
        """It is to stop."""
        self._is_told_to_stop = True

    def end(self) -> None:
        """It has ended."""
        self._has_ended = True

    @property
    def starting(self) -> str:
        """What to say of an engine that has not begun."""
        return "the engine is starting" + (f"; {self._waits_for_lock}" if self._waits_for_lock else "")

    @property
    def refusal(self) -> ReposyncError:
        """Why a request is not served, by an engine that is stopping."""
        if self._is_told_to_stop:
            return ReposyncError("the service is stopping")
        return OverloadedError("the engine has died and is being restarted; ask again in some seconds")

    def check_begun(self) -> None:
        """Raises ReposyncError unless the repositories are known and requests are served."""
        if self.is_stopping:
            raise self.refusal
        if self._has_begun:
            return
        if self._waits_for_lock:
            raise DaemonNotRunningError(self.starting)  # a command can do without the service
        raise OverloadedError(f"{self.starting}; ask again in some seconds")


class Heartbeat:
    """Tells whether a thread advances: it calls `beat` at least every `stall_s`, or says beforehand when it will.

    `beat`, `sleep_until` and `allow` are for that thread, `is_responsive` for any.
    """

    def __init__(self, stall_s: float) -> None:
        self._stall_s = stall_s
        self._allowed_s = 0.0
        self._expected = time.monotonic() + stall_s
        """the next beat comes before this, unless the thread hangs"""

    def beat(self) -> None:
        """The thread advances."""
        self._expected = time.monotonic() + self._stall_s + self._allowed_s

    def sleep_until(self, when: float) -> None:
        """The thread has nothing to do before `when`, on the monotonic clock."""
        self._expected = when + self._stall_s

    @contextmanager
    def allow(self, seconds: float) -> Iterator[None]:
        """In this block a step may take longer, by this much."""
        self._allowed_s = seconds
        try:
            yield
        finally:
            self._allowed_s = 0.0
            self.beat()

    @property
    def is_responsive(self) -> bool:
        """Whether the thread advances."""
        return time.monotonic() < self._expected
