"""The tickets that were given out and not yet redeemed."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass

from reposyncd.daemon.ports import Ticket
from reposyncd.errors import NoTicketError, OverloadedError

TICKETS = 1000
"""RepoState at once: each may hold the result of a search, which is up to some hundred kilobytes."""

KEPT_S = 300.0
"""How long one that is done is kept for somebody who may still ask."""


@dataclass(slots=True)
class _Entry:
    ticket: Ticket | None
    """None while the work is being asked for"""
    done_s: float | None = None
    """when it was first seen to be done"""


class TicketStore:
    """Tickets by their number, which nobody guesses. Thread-safe.

    `now_s` is a monotonic clock. Nothing wakes up to forget what is too old: that is done when the next one comes.
    """

    def __init__(self, now_s: Callable[[], float], *, limit: int = TICKETS) -> None:
        self._now_s = now_s
        self._limit = limit
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}

    def add(self, ask: Callable[[], Ticket]) -> tuple[str, Ticket]:
        """Asks for work and remembers its ticket.

        Raises OverloadedError, without asking, when too much is under way; and what `ask` raises.
        """
        number = os.urandom(16).hex()
        with self._lock:
            self._make_room()
            self._entries[number] = entry = _Entry(None)
        try:
            ticket = ask()
        except BaseException:
            self.forget(number)
            raise
        entry.ticket = ticket
        return number, ticket

    def find(self, number: str) -> Ticket:
        """The ticket. Raises NoTicketError."""
        with self._lock:
            self._drop_old()
            entry = self._entries.get(number)
        if entry is None or entry.ticket is None:
            raise NoTicketError(f"there is no ticket {number[:40]!r}; one that is done is kept for {KEPT_S:.0f} s")
        return entry.ticket

    def forget(self, number: str) -> None:
        """It was redeemed."""
        with self._lock:
            self._entries.pop(number, None)

    def _make_room(self) -> None:
        self._drop_old()
        if len(self._entries) >= self._limit:
            done = min(
                (number for number, entry in self._entries.items() if entry.done_s is not None),
                key=lambda number: self._entries[number].done_s or 0.0,
                default=None,
            )
            if done is None:
                raise OverloadedError(f"{self._limit:,} requests are under way; try again when some are done")
            del self._entries[done]

    def _drop_old(self) -> None:
        now = self._now_s()
        for number, entry in list(self._entries.items()):
            if entry.done_s is None and entry.ticket is not None and entry.ticket.wait(0):
                entry.done_s = now
            if entry.done_s is not None and now - entry.done_s >= KEPT_S:
                del self._entries[number]
