"""The requests to the engine that are not done yet."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from reposyncd.daemon.engine.work import Work
from reposyncd.errors import ReposyncError


class Command(NamedTuple):
    """Something that the engine does between two jobs."""

    run: Callable[[], dict[str, Any]]
    work: Work


class Inbox:
    """Commands in order, and promised work. Thread-safe. `put` calls `on_put` after it has added a command."""

    def __init__(self, on_put: Callable[[], None]) -> None:
        self._on_put = on_put
        self._lock = threading.Lock()
        self._commands: deque[Command] = deque()
        self._promised: set[Work] = set()
        self._refusal: ReposyncError | None = None

    def __len__(self) -> int:
        return len(self._commands)

    def put(self, command: Command) -> None:
        """Adds a command. If the inbox is closed, its work fails at once."""
        with self._lock:
            refusal = self._refusal
            if refusal is None:
                self._commands.append(command)
        if refusal is None:
            self._on_put()
        else:
            command.work.fail(refusal)

    def take(self) -> Command | None:
        """Removes and returns the first command, if there is one."""
        with self._lock:
            return self._commands.popleft() if self._commands else None

    def promise(self, work: Work) -> Callable[[], None]:
        """Makes the work fail when the inbox is closed, unless the returned function is called before that."""
        with self._lock:
            self._promised.add(work)
        return lambda: self._promised.discard(work)

    def close(self, refusal: ReposyncError) -> None:
        """Fails everything in the inbox with this error, and everything that is added later."""
        with self._lock:
            self._refusal = refusal
            works = [*(command.work for command in self._commands), *self._promised]
            self._commands.clear()
            self._promised.clear()
        for work in works:
            work.fail(refusal)
