"""When a periodic task is due."""

from __future__ import annotations

import math
import time


class Timer:
    """Base of the periodic tasks: holds `due`, on the monotonic clock. For the engine's thread."""

    def __init__(self, due: float = math.inf) -> None:
        self._due = due

    @property
    def due(self) -> float:
        """See `schedule.PeriodicTask`."""
        return self._due

    def postpone(self, until: float) -> None:
        """See `schedule.PeriodicTask`."""
        self._due = max(self._due, until)

    def due_in(self, seconds: float) -> None:
        """Makes the task due after this time. 0: now; math.inf: not until this is called again."""
        self._due = time.monotonic() + seconds
