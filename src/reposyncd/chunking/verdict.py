"""What is concluded about a file from what became of the processes that cut it. Pure.

A file is at fault if it takes too long, if what cuts it raises, or if two processes have died of it. It is then cut as
plain lines, without a parser; if it is at fault there too, it is left out. That a process was killed from outside says
nothing of the file.
"""

from __future__ import annotations

from dataclasses import dataclass

from reposyncd.errors import UncutError
from reposyncd.model import Cut, Skip

S_PER_MB = 2.0
"""CPU seconds a megabyte that a file may take: source code takes 0.1 to 0.3 on a desktop, so a computer of a fifth
of its speed still has some to spare."""

LEAST_S = 1.0
"""CPU seconds that any file may take, however short: grammars and decoders are loaded when they are first needed. In
115 MB of sources in 20 languages no file took a quarter of its limit."""

MOST_S = 10.0
"""CPU seconds that no file may exceed. With the default of `index.max_file_size` none may take more than 2.1."""

PLAIN_FACTOR = 3.0
"""Plain lines may take so many times as long. They take 1 CPU second a megabyte at worst, whatever the text."""

DEATHS = 2
"""Processes that may die of one file. The second shows that it was no accident."""

LOSSES = 4
"""Processes that may be killed from outside while they cut one file, before it is left for later."""

FIRST_WAIT_S = 0.2
"""Before a file is tried again whose process was killed from outside; four times that the next time. Memory that was
short may be there again."""


def limit_s(size: int) -> float:
    """CPU seconds that a file of `size` bytes may take to be cut."""
    return min(MOST_S, max(LEAST_S, size / 1e6 * S_PER_MB))


@dataclass(slots=True)
class Trial:
    """What is held against one content. Each method is told what happened, and returns what became of the file: its
    Cut, if nothing more is to be tried, or an error; None: it is to be cut again, `as_plain_lines` or not."""

    size: int
    """bytes"""
    reason: str = ""
    """why it is cut as plain lines"""
    wait_s: float = 0.0
    """how long to wait before it is cut again"""
    _deaths: int = 0
    _losses: int = 0

    @property
    def as_plain_lines(self) -> bool:
        """Whether no parser is to see it."""
        return bool(self.reason)

    @property
    def has_begun(self) -> bool:
        """Whether anything is held against it, or its process was lost."""
        return bool(self.reason or self._deaths or self._losses)

    @property
    def limit_s(self) -> float:
        """CPU seconds that it may take now."""
        return limit_s(self.size) * (PLAIN_FACTOR if self.as_plain_lines else 1)

    def took_too_long(self) -> Cut | None:
        """It has exceeded its limit."""
        return self._condemn(f"it takes more than {self.limit_s:.1f} s of processor time")

    def raised(self, what: str) -> Cut | None:
        """What cut it has raised an error."""
        return self._condemn(f"it raises {what}")

    def killed_its_process(self, how: str) -> Cut | None:
        """The process has died, or hung, and nobody else was to blame."""
        self._deaths += 1
        return self._condemn(f"the chunking process {how}, {DEATHS} times") if self._deaths == DEATHS else None

    def lost_its_process(self, how: str) -> UncutError | None:
        """The process was ended by somebody else."""
        self.wait_s = FIRST_WAIT_S * 4**self._losses
        self._losses += 1
        if self._losses < LOSSES:
            return None
        return UncutError(f"the chunking process {how}, {LOSSES} times; it is tried again")

    def cut(self, cut: Cut) -> Cut:
        """It was cut."""
        return cut._replace(verdict=self.reason or None)

    def _condemn(self, why: str) -> Cut | None:
        if self.as_plain_lines:
            return Cut(skip=Skip.QUARANTINED, verdict=f"{self.reason}; as plain lines too, {why}")
        self.reason, self._deaths = why, 0
        return None
