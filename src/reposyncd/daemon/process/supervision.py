"""Restarts parts of the service that have died, and feeds systemd's watchdog while all parts make progress."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from reposyncd.daemon.events import STALLED, log_event

FEEDS = 2
"""How often the watchdog is fed within its time-out, as sd_watchdog_enabled(3) recommends."""

STALLED_CHECK_S = 1.0
"""Time until a hanging part is checked again. It may make progress before the time-out."""

RESTART_S = 1.0
"""A part that has died is restarted after this time, the next time after twice that, and so on."""

RESTARTS_AT_MOST = 5
"""How often a part is restarted within RESTARTS_WITHIN_S. After that the whole service ends, and systemd may restart
it."""

RESTARTS_WITHIN_S = 600.0


class Deaths:
    """The deaths of one part. Pure: the clock, in monotonic seconds, is an argument."""

    def __init__(self) -> None:
        self._at: deque[float] = deque(maxlen=RESTARTS_AT_MOST)

    def restart_at(self, now: float) -> float | None:
        """Records a death. Returns when to restart the part; None if it dies too often."""
        recent = sum(now - each < RESTARTS_WITHIN_S for each in self._at)
        self._at.append(now)
        return None if recent == RESTARTS_AT_MOST else now + RESTART_S * 2**recent


class Restart:
    """Restarts one part. `start` starts it. `report` is called once for each death, with what died and why.

    `died` and `is_pending` are for any thread, `restart_if_due` for the supervising thread.
    """

    def __init__(self, what: str, start: Callable[[], None], report: Callable[[str, BaseException], None]) -> None:
        self._what = what
        self._start = start
        self._report = report
        self._deaths = Deaths()
        self._error: BaseException | None = None
        self._due: float | None = None
        """when to restart it, on the monotonic clock"""

    @property
    def is_pending(self) -> bool:
        """Whether it has died and was not restarted yet."""
        return self._error is not None

    def died(self, error: BaseException) -> None:
        """Records that the part has ended without being asked to."""
        self._error = error

    def restart_if_due(self, now: float) -> float | None:
        """Restarts the part, if it has died and the time has come. Returns when it is due to be restarted, or None. If
        this has happened too often, raises the error that it died of, or that prevented it from starting."""
        if self._error is None:
            return None
        if self._due is None:
            self._report(self._what, self._error)
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
    """Checks whether a part makes progress that the service cannot do without."""

    what: str
    is_responsive: Callable[[], bool]
    """true if the part makes progress or has nothing to do; returns within some seconds"""


class Watchdog:
    """Feeds systemd's watchdog while every check succeeds. `timeout_s` is systemd's; None: there is no watchdog."""

    def __init__(self, checks: Sequence[HealthCheck], feed: Callable[[], None], timeout_s: float | None) -> None:
        self._checks = checks
        self._feed = feed
        self._every_s = None if timeout_s is None else timeout_s / FEEDS
        self._due: float | None = None
        self.stalled: tuple[str, ...] = ()
        """the parts that made no progress at the last check"""

    def due(self, now: float) -> float | None:
        """When to call `check`, on the monotonic clock; None: never."""
        if self._every_s is not None and self._due is None:
            self._due = now
        return self._due

    def check(self, now: float) -> None:
        """If it is due, checks every part and feeds the watchdog. Logs the parts that make no progress."""
        if self._every_s is None or (self._due is not None and now < self._due):
            return
        stalled = tuple(each.what for each in self._checks if not each.is_responsive())
        self._due = now + (min(STALLED_CHECK_S, self._every_s) if stalled else self._every_s)
        for what in stalled:
            if what not in self.stalled:
                log_event(STALLED, what=what)
        self.stalled = stalled
        if not stalled:
            self._feed()
