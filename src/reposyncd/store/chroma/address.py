"""Which Chroma directory an index process opens."""

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
"""How long replaying a row of Chroma's log may take: about 0.4 ms were measured."""


@dataclass(frozen=True, slots=True)
class EmbeddedAddress:
    """A `ports.StoreAddress` of the Chroma directory at `path`, which may be a link; created if absent."""

    path: str
    lock_timeout_s: float
    """`locks.NO_LOCK` for a directory that no other program knows"""
    salvage: str = ""
    """where the vectors of an earlier store may be"""
    more_slack_s: float = 0.0
    """what the first operation may take longer for reasons of its own"""

    @property
    def kind(self) -> str:
        """See `ports.StoreAddress`."""
        return KIND

    def arguments(self) -> Sequence[str]:
        """As `backend.EmbeddedBackend.from_arguments` reads them."""
        # The real path: a link that is set to another directory must not mix two stores in one client.
        place = os.path.realpath(self.path)
        if not os.path.lexists(self.path):
            with translated(place):
                os.mkdir(place, 0o700)
        return [place, repr(self.lock_timeout_s), self.salvage]

    def slack_s(self) -> float:
        """For replaying the log, and for waiting for the lock."""
        waiting_s = self.more_slack_s + (self.lock_timeout_s if self.lock_timeout_s < math.inf else 0.0)
        with suppress(sqlite3.Error, OSError, TypeError):  # the probe finds out that a store is damaged
            return waiting_s + replayed_rows(self.path) * _REPLAY_S_PER_ROW
        return waiting_s
