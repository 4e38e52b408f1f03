"""Decides what happens to a file that takes too long to be cut, or whose process dies. Pure.

A file is to blame if it takes too long, if cutting it raises an exception, or if two processes have died while they cut
it. Then it is cut as plain lines, without a parser. If that fails for the same reasons, the file is quarantined. If a
process was killed from outside, the file is not to blame.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from reposyncd.errors import UncutError
from reposyncd.model import Cut, Skip

S_PER_MB = 2.0
"""CPU seconds per megabyte that a file may take. Source code takes 0.1 to 0.3 on a desktop computer, so a computer with
a fifth of that speed is still fast enough."""

LEAST_S = 1.0
"""CPU seconds that any file may take, however short it is, since grammars and decoders are loaded when they are first
needed. In 115 MB of source code in 20 languages, no file took more than a quarter of its limit."""

MOST_S = 10.0
"""CPU seconds that no file may exceed. With the default of `index.max_file_size`, the largest limit is 2.1."""

PLAIN_FACTOR = 3.0
"""Factor for the limit when a file is cut as plain lines. That takes 1 CPU second per megabyte at worst."""

DEATHS = 2
"""A file is to blame if this many processes have died while they cut it. One death may be an accident."""

LOSSES = 4
"""A file is left for a later sync if this many processes were killed from outside while they cut it."""

FIRST_RETRY_WAIT_S = 0.2
"""How long to wait before a file is cut again whose process was killed from outside. Each further wait is four times as
long. If memory was short, it may be free again by then."""


def limit_s(size: int) -> float:
    """CPU seconds that cutting a file of `size` bytes may take."""
    return min(MOST_S, max(LEAST_S, size / 1e6 * S_PER_MB))


@dataclass(slots=True)
class Trial:
    """The attempts to cut one content.

    The methods are called with what happened in an attempt. They return the result: a Cut, or an error. None means that
    the file has to be cut again, as `as_plain_lines` says.
    """

    size: int
    """bytes"""
    reason: str = ""
    """why it is cut as plain lines; "" if it is not"""
    wait_s: float = 0.0
    """how long to wait before the next attempt, seconds"""
    _deaths: int = 0
    _losses: int = 0

    @property
    def as_plain_lines(self) -> bool:
        """Whether it is cut without a parser."""
        return bool(self.reason)

    @property
    def has_begun(self) -> bool:
        """Whether an attempt has failed."""
        return bool(self.reason or self._deaths or self._losses)

    @property
    def limit_s(self) -> float:
        """CPU seconds that the next attempt may take."""
        return limit_s(self.size) * (PLAIN_FACTOR if self.as_plain_lines else 1)

    def took_too_long(self) -> Cut | None:
        """The attempt has exceeded its limit."""
        return self._condemn(f"it takes more than {self.limit_s:.1f} s of CPU time")

    def raised(self, what: str) -> Cut | None:
        """The attempt has raised an exception; `what` describes it without any content."""
        return self._condemn(f"it raises {what}")

    def killed_its_process(self, how: str) -> Cut | None:
        """The process has crashed, or hung, or had no memory left, and nothing else was to blame."""
        self._deaths += 1
        return self._condemn(f"the chunking process {how}, {DEATHS} times") if self._deaths == DEATHS else None

    def lost_its_process(self, how: str) -> UncutError | None:
        """The process was ended from outside."""
        self.wait_s = FIRST_RETRY_WAIT_S * 4**self._losses
        self._losses += 1
        if self._losses < LOSSES:
            return None
        return UncutError(f"the chunking process {how}, {LOSSES} times; it will be retried")

    def cut(self, cut: Cut) -> Cut:
        """The attempt was successful."""
        return replace(cut, verdict=self.reason) if self.reason else cut

    def _condemn(self, why: str) -> Cut | None:
        if self.as_plain_lines:
            return Cut(skip=Skip.QUARANTINED, verdict=f"{self.reason}; as plain lines too, {why}")
        self.reason, self._deaths = why, 0
        return None
