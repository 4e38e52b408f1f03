"""What wakes the main thread: signals, and other threads that want it."""

from __future__ import annotations

import math
import os
import select
import signal
from collections.abc import Iterable
from contextlib import suppress
from types import FrameType

_LONGEST_S = 86_400.0
"""poll(2) counts milliseconds in an int."""


class Bell:
    """Rung by the signals that it is made for, and by `ring`, from any thread. To be made, and waited for, in the main
    thread. A context manager: afterwards signals are handled as before.

    A pipe, and no threading.Event: a signal's handler runs in the middle of whatever the main thread does, and setting
    an event that is being waited for can hang it.
    """

    def __init__(self, signals: Iterable[signal.Signals]) -> None:
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._reader, select.POLLIN)
        self._received: list[signal.Signals] = []
        self._before = {each: signal.signal(each, self._receive) for each in signals}

    def __enter__(self) -> Bell:
        return self

    def __exit__(self, *_: object) -> None:
        for each, handler in self._before.items():
            signal.signal(each, handler)
        # The pipe stays open: a thread may ring once more, and must not write to a descriptor that is another by then.

    def ring(self) -> None:
        """Wakes the main thread, or spares it the next wait. Never blocks."""
        with suppress(BlockingIOError):  # it is full: whoever reads it is awake
            os.write(self._writer, b".")

    def wait(self, timeout_s: float = math.inf) -> list[signal.Signals]:
        """Returns after a ring, or the time-out, with the signals that have come since the last call."""
        self._poll.poll(max(0.0, min(timeout_s, _LONGEST_S)) * 1000)
        with suppress(BlockingIOError):
            while os.read(self._reader, 4096):
                pass
        received, self._received = self._received, []
        return received

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._received.append(signal.Signals(number))
        self.ring()
