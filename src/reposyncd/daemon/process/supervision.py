"""Parts of the service that die are started again; systemd's watchdog is fed while all of them make progress."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from reposyncd.daemon.events import STALLED, say

FEEDS = 2
"""Times that the watchdog is fed within its time: the recommendation of sd_watchdog_enabled(3)."""

STALLED_LOOK_S = 1.0
"""What is stalled is looked at again after so long: it may go on in time."""

AGAIN_S = 1.0
"""What has died is started again after so long, and after twice that the next time."""

AGAIN_AT_MOST = 5
"""Times that this is tried within AGAIN_WITHIN_S. Then the whole service ends, and systemd starts it, or gives up."""

AGAIN_WITHIN_S = 600.0


class Deaths:
    """Of one part: when it is to be started again. Pure: the clock (monotonic seconds) is an argument."""

    def __init__(self) -> None:
        self._at: deque[float] = deque(maxlen=AGAIN_AT_MOST)

    def again(self, now: float) -> float | None:
        """It has died: when to start it again. None: it dies too often."""
        recent = sum(now - each < AGAIN_WITHIN_S for each in self._at)
        self._at.append(now)
        return None if recent == AGAIN_AT_MOST else now + AGAIN_S * 2**recent


class Restart:
    """Of one part. `start` starts it again; `tell` is called once for each death, with what died and why.

    `died` is for any thread, `mend` for the one that supervises.
    """

    def __init__(self, what: str, start: Callable[[], None], tell: Callable[[str, BaseException], None]) -> None:
        self._what = what
        self._start = start
        self._tell = tell
        self._deaths = Deaths()
        self._error: BaseException | None = None
        self._again: float | None = None
        """when it is started again, on the monotonic clock"""

    @property
    def is_pending(self) -> bool:
        """Whether it has died and is not started again by now."""
        return self._error is not None

    def died(self, error: BaseException) -> None:
        """It has ended, and nobody told it to."""
        self._error = error

    def mend(self, now: float) -> float | None:
        """Starts it again, if it has died and it is time to; returns when it will be, or None. Raises what it died of,
        or what kept it from starting, when that was so too often."""
        if self._error is None:
            return None
        if self._again is None:
            self._tell(self._what, self._error)
            self._again = self._deaths.again(now)
            if self._again is None:
                raise self._error
        if now < self._again:
            return self._again
        self._error, self._again = None, None
        try:
            self._start()
        except Exception as error:
            self._error = error
            return self.mend(now)
        return None


class HealthCheck(NamedTuple):
    """A part without which the service is none."""

    what: str
    is_responsive: Callable[[], bool]
    """whether it makes progress, or has nothing to do; takes some seconds at most"""


class Watchdog:
    """Feeds while all is well. `limit_s`: how long systemd waits; None: there is nobody to be fed."""

    def __init__(self, vitals: Sequence[HealthCheck], feed: Callable[[], None], limit_s: float | None) -> None:
        self._vitals = vitals
        self._feed = feed
        self._every_s = None if limit_s is None else limit_s / FEEDS
        self._due: float | None = None
        self.stalled: tuple[str, ...] = ()
        """what made no progress when it was looked at"""

    def due(self, now: float) -> float | None:
        """When `look` is to be called, on the monotonic clock; None: never."""
        if self._every_s is not None and self._due is None:
            self._due = now
        return self._due

    def look(self, now: float) -> None:
        """Feeds if it is time to, and all is well; says what is not."""
        if self._every_s is None or (self._due is not None and now < self._due):
            return
        stalled = tuple(each.what for each in self._vitals if not each.is_responsive())
        self._due = now + (min(STALLED_LOOK_S, self._every_s) if stalled else self._every_s)
        for what in stalled:
            if what not in self.stalled:
                say(STALLED, what=what)
        self.stalled = stalled
        if not stalled:
            self._feed()
