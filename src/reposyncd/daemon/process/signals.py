"""What wakes the main thread: signals, and other threads that want it."""

from __future__ import annotations

import math
import os
import select
import signal
from contextlib import suppress
from types import FrameType

STOPS = (signal.SIGTERM, signal.SIGINT)
"""What ends the service."""

_LONGEST_S = 86_400.0
"""poll(2) counts milliseconds in an int."""


class SignalWaker:
    """Rung by signals and by `ring`, from any thread. To be made, and waited for, in the main thread. A context
    manager: afterwards signals are handled as before. SIGHUP may have been blocked before, and is heard from now on.

    The process ends `stop_s` after the first of SIGTERM and SIGINT, whatever the main thread is at then, if it has not
    ended by itself; and with the second of them, at once.

    A pipe, and no threading.Event: a signal's handler runs in the middle of whatever the main thread does, and setting
    an event that is being waited for can hang it.
    """

    def __init__(self, stop_s: float) -> None:
        self._stop_s = stop_s
        self._is_told = False
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._reader, select.POLLIN)
        self._received: list[signal.Signals] = []
        handlers = dict.fromkeys((*STOPS, signal.SIGHUP), self._receive) | {signal.SIGALRM: self._end}
        self._before = {each: signal.signal(each, handler) for each, handler in handlers.items()}
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})

    def __enter__(self) -> SignalWaker:
        return self

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
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
        if number in STOPS:
            if self._is_told:
                os._exit(128 + number)
            self._is_told = True
            signal.setitimer(signal.ITIMER_REAL, self._stop_s)
        self._received.append(signal.Signals(number))
        self.ring()

    def _end(self, number: int, frame: FrameType | None) -> None:
        """Nothing is said of it: what hangs may be the log."""
        os._exit(0)
