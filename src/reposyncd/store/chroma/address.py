"""Which Chroma directory an index process has to open."""

from __future__ import annotations

import math
import os
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from reposyncd.store.chroma.database import replayed_rows
from reposyncd.store.chroma.status import KIND
from reposyncd.store.files import translated

_REPLAY_S_PER_ROW = 0.002
"""How long replaying one row of Chroma's log may take. About 0.4 ms were measured."""


@dataclass(frozen=True, slots=True)
class EmbeddedAddress:
    """A `ports.StoreAddress` for the Chroma directory at `path`, which may be a link; created if absent."""

    path: str
    lock_timeout_s: float
    """`locks.NO_LOCK` for a directory that no other program knows"""
    salvage: str = ""
    """path of the file that may have vectors of an earlier store"""
    more_slack_s: float = 0.0
    """additional time for the first operation, in seconds"""

    @property
    def kind(self) -> str:
        """See `ports.StoreAddress`."""
        return KIND

    def arguments(self) -> Sequence[str]:
        """The arguments that `backend.EmbeddedBackend.from_arguments` reads."""
        # The real path: if the link is changed to another directory, one client must not mix two stores.
        place = os.path.realpath(self.path)
        if not os.path.lexists(self.path):
            with translated(place):
                os.mkdir(place, 0o700)
        return [place, repr(self.lock_timeout_s), self.salvage]

    def slack_s(self) -> float:
        """Time for replaying the log, and for waiting for the lock."""
        waiting_s = self.more_slack_s + (self.lock_timeout_s if self.lock_timeout_s < math.inf else 0.0)
        with suppress(sqlite3.Error, OSError, TypeError):  # if the store is damaged, the probe finds out
            return waiting_s + replayed_rows(self.path) * _REPLAY_S_PER_ROW
        return waiting_s
