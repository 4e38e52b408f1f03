"""Wakes the main thread, for signals and for other threads."""

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
"""A limit for poll(2), which takes its time-out as milliseconds in an int."""


class SignalWaker:
    """Woken by signals, and by `wake` from any thread. It is created, and waited for, in the main thread. A context
    manager: it restores the previous signal handlers at its end. SIGHUP may be blocked until then, and is unblocked.

    After the first SIGTERM or SIGINT, the process ends within `stop_s` seconds, whatever the main thread is doing. It
    ends at once after the second one.

    It uses a pipe instead of a threading.Event. The signal handler interrupts the main thread, and would hang if it set
    an event that this thread is just waiting for.
    """

    def __init__(self, stop_s: float) -> None:
        self._stop_s = stop_s
        self._is_stop_requested = False
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
        # The pipe stays open: a thread may still call `wake`, and must not write to a reused descriptor.

    def wake(self) -> None:
        """Wakes the main thread, or makes its next wait return at once. Never blocks."""
        with suppress(BlockingIOError):  # the pipe is full, so the reader will wake up
            os.write(self._writer, b".")

    def wait(self, timeout_s: float = math.inf) -> list[signal.Signals]:
        """Returns when it is woken, or after the time-out, with the signals since the last call."""
        self._poll.poll(max(0.0, min(timeout_s, _LONGEST_S)) * 1000)
        with suppress(BlockingIOError):
            while os.read(self._reader, 4096):
                pass
        received, self._received = self._received, []
        return received

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if number in STOPS:
            if self._is_stop_requested:
                os._exit(128 + number)
            self._is_stop_requested = True
            signal.setitimer(signal.ITIMER_REAL, self._stop_s)
        self._received.append(signal.Signals(number))
        self.wake()

    def _end(self, number: int, frame: FrameType | None) -> None:
        """Nothing is logged here, because the log may be what hangs."""
        os._exit(0)
