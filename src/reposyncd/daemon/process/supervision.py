"""Restarts the parts of the service that have died, and feeds systemd's watchdog while all of them advance."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from reposyncd.daemon.events import STALLED, say

FEEDS = 2
"""How often the watchdog is fed within its time-out, as sd_watchdog_enabled(3) recommends."""

STALLED_CHECK_S = 1.0
"""Time until a part that hangs is checked again: it may advance before the time-out."""

RESTART_S = 1.0
"""A part that has died is restarted after this time, the next time after twice that, and so on."""

RESTARTS_AT_MOST = 5
"""How often a part is restarted within RESTARTS_WITHIN_S. After that the whole service ends; systemd may restart it."""

RESTARTS_WITHIN_S = 600.0


class Deaths:
    """The deaths of one part. Pure: the clock, in monotonic seconds, is an argument."""

    def __init__(self) -> None:
        self._at: deque[float] = deque(maxlen=RESTARTS_AT_MOST)

    def restart_at(self, now: float) -> float | None:
        """It has died: when to restart it. None: it dies too often."""
        recent = sum(now - each < RESTARTS_WITHIN_S for each in self._at)
        self._at.append(now)
        return None if recent == RESTARTS_AT_MOST else now + RESTART_S * 2**recent


class Restart:
    """Restarts one part. `start` starts it; `tell` is called once for each death, with what died and why.

    `died` and `is_pending` are for any thread, `restart_if_due` for the one that supervises.
    """

    def __init__(self, what: str, start: Callable[[], None], tell: Callable[[str, BaseException], None]) -> None:
        self._what = what
        self._start = start
        self._tell = tell
        self._deaths = Deaths()
        self._error: BaseException | None = None
        self._due: float | None = None
        """when it is restarted, on the monotonic clock"""

    @property
    def is_pending(self) -> bool:
        """Whether it has died and is not restarted yet."""
        return self._error is not None

    def died(self, error: BaseException) -> None:
        """It has ended without being told to."""
        self._error = error

    def restart_if_due(self, now: float) -> float | None:
        """Restarts it, if it has died and the time has come. Returns when it is due to be restarted, or None. Raises
        what it died of, or what prevented it from starting, when that has happened too often."""
        if self._error is None:
            return None
        if self._due is None:
            self._tell(self._what, self._error)
            self._due = self._deaths.restart_at(now)
            if self._due is None:
                raise self._error
        if now < self._due:
            return self._due
        self._error, self._due = None, None
        try:
            self._start()
        except Exception as error:
            self._error = error
            return self.restart_if_due(now)
        return None


class HealthCheck(NamedTuple):
    """Whether a part advances that the service cannot do without."""

    what: str
    is_responsive: Callable[[], bool]
    """true if it advances or has nothing to do; returns within some seconds"""


class Watchdog:
    """Feeds systemd's watchdog while every check succeeds. `timeout_s`: systemd's; None: it has no watchdog."""

    def __init__(self, checks: Sequence[HealthCheck], feed: Callable[[], None], timeout_s: float | None) -> None:
        self._checks = checks
        self._feed = feed
        self._every_s = None if timeout_s is None else timeout_s / FEEDS
        self._due: float | None = None
        self.stalled: tuple[str, ...] = ()
        """the parts that did not advance when they were checked last"""

    def due(self, now: float) -> float | None:
        """When to call `check`, on the monotonic clock; None: never."""
        if self._every_s is not None and self._due is None:
            self._due = now
        return self._due

    def check(self, now: float) -> None:
        """Checks every part and feeds the watchdog, if it is due. Logs the parts that do not advance."""
        if self._every_s is None or (self._due is not None and now < self._due):
            return
        stalled = tuple(each.what for each in self._checks if not each.is_responsive())
        self._due = now + (min(STALLED_CHECK_S, self._every_s) if stalled else self._every_s)
        for what in stalled:
            if what not in self.stalled:
                say(STALLED, what=what)
        self.stalled = stalled
        if not stalled:
            self._feed()
