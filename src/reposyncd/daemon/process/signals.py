"""Wakes the main thread: for signals, and for other threads."""

from __future__ import annotations

import math
import os
import select
import signal
from contextlib import suppress
from types import FrameType

STOPS = (signal.SIGTERM, signal.SIGINT)
"""The signals that stop the service."""

_LONGEST_S = 86_400.0
"""poll(2) counts milliseconds in an int."""


class SignalWaker:
    """Woken by signals, and by `wake` from any thread. Made and waited for in the main thread. A context manager: at
    its end the handlers of before are restored. SIGHUP, which may have been blocked until now, is unblocked.

    The process ends `stop_s` seconds after the first SIGTERM or SIGINT, whatever the main thread does then, unless it
    has ended by itself; and at once with the second one.

    It uses a pipe, and not a threading.Event: the handler of a signal runs in the middle of what the main thread does,
    and hangs if it sets an event that is just being waited for.
    """

    def __init__(self, stop_s: float) -> None:
        self._stop_s = stop_s
        self._is_told_to_stop = False
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
        # The pipe stays open: a thread may still call `wake`, and must not write to a descriptor that is reused.

    def wake(self) -> None:
        """Wakes the main thread, or lets its next wait return at once. Never blocks."""
        with suppress(BlockingIOError):  # the pipe is full, so the reader will wake up
            os.write(self._writer, b".")

    def wait(self, timeout_s: float = math.inf) -> list[signal.Signals]:
        """Returns when it was woken, or after the time-out, with the signals that have come since the last call."""
        self._poll.poll(max(0.0, min(timeout_s, _LONGEST_S)) * 1000)
        with suppress(BlockingIOError):
            while os.read(self._reader, 4096):
                pass
        received, self._received = self._received, []
        return received

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if number in STOPS:
            if self._is_told_to_stop:
                os._exit(128 + number)
            self._is_told_to_stop = True
            signal.setitimer(signal.ITIMER_REAL, self._stop_s)
        self._received.append(signal.Signals(number))
        self.wake()

    def _end(self, number: int, frame: FrameType | None) -> None:
        """It is not logged: the log may be what hangs."""
        os._exit(0)
