"""The tickets that clients have received and not redeemed yet."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from reposyncd.daemon.ports import ServiceTask
from reposyncd.errors import NoTicketError, OverloadedError

TICKETS = 1000
"""The largest number of tickets at once. Each may hold the result of a search, which can be hundreds of kilobytes."""

RESULT_LIFETIME_S = 300.0
"""For how many seconds the result of a task is kept for a client that may still ask for it."""


@dataclass(slots=True)
class _Entry:
    task: ServiceTask[Any] | None
    """None while it is being started"""
    done_s: float | None = None
    """when the task was first seen to be done"""


class TicketStore:
    """Tasks by ticket, a random text that cannot be guessed. Thread-safe.

    `now_s` is a monotonic clock. There is no timer: tickets that are too old are dropped when the next one is added or
    looked up.
    """

    def __init__(self, now_s: Callable[[], float], *, limit: int = TICKETS) -> None:
        self._now_s = now_s
        self._limit = limit
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, start: Callable[[], ServiceTask[Any]]) -> tuple[str, ServiceTask[Any]]:
        """Starts a task. Returns its ticket and the task.

        Raises OverloadedError, before it starts anything, if too many tasks are under way; and what `start` raises.
        """
        number = os.urandom(16).hex()
        with self._lock:
            self._make_room()
            self._entries[number] = entry = _Entry(None)
        try:
            task = start()
        except BaseException:
            self.forget(number)
            raise
        entry.task = task
        return number, task

    def find(self, number: str) -> ServiceTask[Any]:
        """The task of a ticket. Raises NoTicketError."""
        with self._lock:
            self._drop_old()
            entry = self._entries.get(number)
        if entry is None or entry.task is None:
            raise NoTicketError(f"there is no ticket {number[:40]!r}; a result is kept for {RESULT_LIFETIME_S:.0f} s")
        return entry.task

    def forget(self, number: str) -> None:
        """Drops a ticket, if it exists."""
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
                raise OverloadedError(f"{self._limit:,} requests are under way; try again when some of them are done")
            del self._entries[done]

    def _drop_old(self) -> None:
        now = self._now_s()
        for number, entry in list(self._entries.items()):
            if entry.done_s is None and entry.task is not None and entry.task.wait(0):
                entry.done_s = now
            if entry.done_s is not None and now - entry.done_s >= RESULT_LIFETIME_S:
                del self._entries[number]
