"""What was asked of the engine and is not done yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from reposyncd.daemon.engine.work import Work
from reposyncd.errors import ReposyncError


class Command(NamedTuple):
    """Something that the engine is to do between two jobs."""

    do: Callable[[], dict[str, Any]]
    work: Work


class Inbox:
    """Commands in order, and work that was promised. Guarded by the engine's lock."""

    def __init__(self) -> None:
        self._commands: deque[Command] = deque()
        self._promised: set[Work] = set()

    def __len__(self) -> int:
        return len(self._commands)

    def put(self, command: Command) -> None:
        """After those that are there."""
        self._commands.append(command)

    def take(self) -> Command:
        """The first. Raises IndexError if there is none."""
        return self._commands.popleft()

    def promise(self, work: Work) -> Callable[[], None]:
        """It fails with `refuse`, unless what is returned was called before."""
        self._promised.add(work)
        return lambda: self._promised.discard(work)

    def refuse(self, error: ReposyncError) -> None:
        """Nothing of it will be done."""
        works = [*(command.work for command in self._commands), *self._promised]
        self._commands.clear()
        self._promised.clear()
        for work in works:
            work.fail(error)
