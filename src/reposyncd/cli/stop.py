"""Ctrl-C and SIGTERM, as a function that long work calls now and then."""

from __future__ import annotations

import signal
from types import FrameType

from reposyncd.cli.output import say


class Stop:
    """The first SIGINT or SIGTERM requests an orderly stop, the second stops at once. Both are safe."""

    def __init__(self) -> None:
        self._asked = False

    def __call__(self) -> bool:
        """Whether a stop was requested."""
        return self._asked

    def __enter__(self) -> Stop:
        self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        say("\nstopping after the current batch; press Ctrl-C again to stop at once", err=True)
