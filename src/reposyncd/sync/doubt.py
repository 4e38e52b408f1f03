"""Whether a store in which trouble was met is damaged. A store is given up only for what a fresh look at it finds."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from reposyncd.errors import (
    ChunkerLostError,
    CorruptStoreError,
    EmbedderUnavailableError,
    LethalOperationError,
    LethalTextError,
    NoSpaceError,
    StoreBusyError,
    StoreError,
    SuspectStoreError,
    TransientStoreError,
    UnreadableStoreError,
)

_FILE = "doubt.json"
"""In the state directory, so that syncs by hand, each a process of its own, come to an end together; by repository,
since what goes well in one says nothing of the files that another one needs."""

BACK_OFF_S = (1.0, 3.0)
"""How long is waited before each of the looks that must agree on damage: most faults are over by then."""

LOOKS = 5
"""Looks that must have been had before time alone is evidence: the clock may jump, the machine may sleep."""

UNREADABLE_S = 120.0
"""A file of the store that the disk does not give back for so long is lost: a cable or a controller that was reset has
come back by then, and the kernel has tried each sector again itself."""

UNUSABLE_S = 600.0
"""A store that fails whenever it is used or looked at, for so long without one batch that could be stored, is given up,
whatever the reason. That the disk is full or cannot be written, the look finds out; this is for what nobody foresaw."""

GAP_S = 150.0
"""What the time between two looks counts at the most, so that a night between them is no evidence, nor a clock that was
set: with LOOKS looks, UNUSABLE_S are over at the earliest."""

_ELSEWHERE = (StoreBusyError, NoSpaceError, EmbedderUnavailableError, ChunkerLostError, LethalTextError)
"""Trouble of which it is known that it is not the store's."""

_PASSING_AT_FIRST = 3
"""Times in a row that trouble of the passing kind is met before the store is looked at."""

_WAIT_LOOK_S = 0.2
"""Between two looks at whether to stop."""

_SECOND_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Since:
    """How long the store has been in doubt."""

    last_ns: int
    """the last look, nanoseconds since the epoch"""
    seconds: float = 0.0
    """time between looks, no gap counted for more than GAP_S"""
    looks: int = 0

    def again(self, now_ns: int) -> Since:
        """One more look."""
        gap_s = (now_ns - self.last_ns) / _SECOND_NS
        return Since(now_ns, self.seconds + min(max(gap_s, 0.0), GAP_S), self.looks + 1)

    def has_lasted(self, seconds: float) -> bool:
        """Whether it is that long, and not by the clock alone."""
        return self.looks >= LOOKS and self.seconds >= seconds

    def __str__(self) -> str:
        return f"for {self.seconds / 60:.0f} minutes, at {self.looks} looks"


class Doubt:
    """What is held against the store of a state directory. The caller holds the state lock.

    `of` names the repository that meets the trouble, "" while none is known. `look` returns if the store is sound, and
    raises as `store.inspection` does; `wait` is called now and then while nothing else is done, and raises
    InterruptedSyncError when asked to stop.
    """

    def __init__(
        self,
        state_dir: str,
        look: Callable[[], None],
        *,
        of: Callable[[], str] = lambda: "",
        now_ns: Callable[[], int],
        wait: Callable[[], None],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._path = os.path.join(state_dir, _FILE)
        self._look = look
        self._of = of
        self._now_ns = now_ns
        self._wait = wait
        self._sleep = sleep
        self._failures = 0

    def progress(self) -> None:
        """Something was stored: all is well."""
        self._failures = 0
        doubts = self._read()
        left = {name: since for name, since in doubts.items() if name not in (self._of(), "")}
        if left != doubts:
            self._write(left)

    def concerns(self, error: StoreError) -> bool:
        """Whether the store is to be looked at, now that this was met."""
        if isinstance(error, _ELSEWHERE):
            return False
        self._failures += 1
        return is_suspicion(error) or (isinstance(error, TransientStoreError) and self._failures >= _PASSING_AT_FIRST)

    def weigh(self, error: StoreError) -> CorruptStoreError | None:
        """The evidence that the store is damaged; None if it is sound. Nobody has it open.

        Raises TransientStoreError if that is not known by now.
        """
        since = self._note()
        found: StoreError | None = None
        for back_off_s in BACK_OFF_S:
            self._pause(back_off_s)
            try:
                self._look()
            except (CorruptStoreError, LethalOperationError, UnreadableStoreError) as each:
                found = each
            else:
                return judge_sound(error, since)
        assert found is not None  # noqa: S101 - else it was sound
        return judge(found, since)

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._wait()
            self._sleep(min(left, _WAIT_LOOK_S))

    def _note(self) -> Since:
        """One more look."""
        now_ns, doubts = self._now_ns(), self._read()
        since = doubts.get(self._of(), Since(now_ns)).again(now_ns)
        self._write(doubts | {self._of(): since})
        return since

    def _read(self) -> dict[str, Since]:
        with suppress(OSError, ValueError, TypeError, AttributeError), open(self._path, encoding="ascii") as file:
            return {name: Since(int(at), float(s), int(looks)) for name, (at, s, looks) in json.load(file).items()}
        return {}

    def _write(self, doubts: Mapping[str, Since]) -> None:
        """A disk that cannot be written to is met by others too."""
        with suppress(OSError):
            if not doubts:
                os.unlink(self._path)
                return
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with open(descriptor, "w", encoding="ascii") as file:
                json.dump({name: (each.last_ns, each.seconds, each.looks) for name, each in doubts.items()}, file)


def is_suspicion(error: StoreError) -> bool:
    """Whether this may be what damage looks like, and is to be looked into at once."""
    return isinstance(error, CorruptStoreError | LethalOperationError) and not isinstance(error, LethalTextError)


def judge(found: StoreError, since: Since) -> CorruptStoreError:
    """What is evidence of all that looks have found. Raises TransientStoreError for what is none by now."""
    match found:
        case UnreadableStoreError():
            if since.has_lasted(UNREADABLE_S):
                return CorruptStoreError(f"{found}, {since}")
            raise found
        case SuspectStoreError():
            if since.has_lasted(UNUSABLE_S):
                return CorruptStoreError(f"{found}, {since}")
            raise TransientStoreError(f"{found}; that may pass, and is tried again")
        case CorruptStoreError():
            return found
    return CorruptStoreError(f"the store cannot be looked at: {found}")


def judge_sound(met: StoreError, since: Since) -> CorruptStoreError | None:
    """The same, when a look has found nothing."""
    if is_suspicion(met) and since.has_lasted(UNUSABLE_S):
        return CorruptStoreError(f"{met}, {since}, although nothing is seen in the store")
    return None
