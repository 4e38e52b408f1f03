"""Decides whether a store that causes trouble is damaged. A store is given up only for what an inspection of it finds,
not for the errors that were met while it was used."""

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
"""In the state directory: what is suspected outlives the process, since every sync by hand is a process of its own. It
is recorded for each repository, since success in one says nothing about the files that another one needs."""

BACK_OFF_S = (1.0, 3.0)
"""The waits before the inspections that must agree on damage, in seconds: most faults are over by then."""

INSPECTIONS = 5
"""How many inspections there must have been before time counts as evidence: the clock may jump, the machine may
sleep."""

UNREADABLE_S = 120.0
"""A file of the store that the disk cannot read for this long is lost: a controller that was reset is back by then, and
the kernel has tried each sector again itself."""

UNUSABLE_S = 600.0
"""A store that fails whenever it is used or inspected, for this long and without storing one batch, is given up,
whatever the reason. An inspection recognises a disk that is full or read-only; this is for what nobody foresaw."""

GAP_S = 150.0
"""The most that the time between two inspections counts, so that a night between them, or a clock that was set, is no
evidence. With INSPECTIONS inspections at this distance UNUSABLE_S are just over."""

_ELSEWHERE = (StoreBusyError, NoSpaceError, EmbedderUnavailableError, ChunkerLostError, LethalTextError)
"""Errors whose cause is known not to be the store."""

_PASSING_AT_FIRST = 3
"""How many errors that usually pass are met in a row before the store is inspected."""

_POLL_S = 0.2
"""Between two checks whether to stop."""

_SECOND_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Suspicion:
    """How long the store has been suspected."""

    last_ns: int
    """when it was last inspected, nanoseconds since the epoch"""
    seconds: float = 0.0
    """time between inspections; no gap counts for more than GAP_S"""
    inspections: int = 0

    def again(self, now_ns: int) -> Suspicion:
        """With one more inspection."""
        gap_s = (now_ns - self.last_ns) / _SECOND_NS
        return Suspicion(now_ns, self.seconds + min(max(gap_s, 0.0), GAP_S), self.inspections + 1)

    def has_lasted(self, seconds: float) -> bool:
        """Whether it has lasted that long, by the clock and by the number of inspections."""
        return self.inspections >= INSPECTIONS and self.seconds >= seconds

    def __str__(self) -> str:
        return f"for {self.seconds / 60:.0f} minutes, in {self.inspections} inspections"


class DamageCheck:
    """Decides on the store of a state directory. The caller holds the state lock.

    `of` names the repository that meets the trouble, "" while none is known. `inspect` returns if the store is sound,
    and raises as `StoreAdmin.inspect` does. `wait` is called now and then while nothing else is done, and raises
    InterruptedSyncError when asked to stop.
    """

    def __init__(
        self,
        state_dir: str,
        inspect: Callable[[], None],
        *,
        of: Callable[[], str] = lambda: "",
        now_ns: Callable[[], int],
        wait: Callable[[], None],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._path = os.path.join(state_dir, _FILE)
        self._inspect = inspect
        self._of = of
        self._now_ns = now_ns
        self._wait = wait
        self._sleep = sleep
        self._failures = 0

    def progress(self) -> None:
        """Tells that something was stored: all is well."""
        self._failures = 0
        suspicions = self._read()
        left = {name: each for name, each in suspicions.items() if name not in (self._of(), "")}
        if left != suspicions:
            self._write(left)

    def is_due(self, error: StoreError) -> bool:
        """Whether the store is to be inspected after this error."""
        if isinstance(error, _ELSEWHERE):
            return False
        self._failures += 1
        return is_suspicion(error) or (isinstance(error, TransientStoreError) and self._failures >= _PASSING_AT_FIRST)

    def evidence(self, error: StoreError) -> CorruptStoreError | None:
        """Inspects the store after this error. Returns the evidence that it is damaged, None if it is sound. Nobody may
        have it open.

        Raises TransientStoreError if it is not known yet.
        """
        suspicion = self._note()
        found: StoreError | None = None
        for back_off_s in BACK_OFF_S:
            self._pause(back_off_s)
            try:
                self._inspect()
            except (CorruptStoreError, LethalOperationError, UnreadableStoreError) as each:
                found = each
            else:
                return judge_sound(error, suspicion)
        assert found is not None  # noqa: S101 - else it was sound
        return judge(found, suspicion)

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._wait()
            self._sleep(min(left, _POLL_S))

    def _note(self) -> Suspicion:
        """Records one more inspection."""
        now_ns, suspicions = self._now_ns(), self._read()
        suspicion = suspicions.get(self._of(), Suspicion(now_ns)).again(now_ns)
        self._write(suspicions | {self._of(): suspicion})
        return suspicion

    def _read(self) -> dict[str, Suspicion]:
        with suppress(OSError, ValueError, TypeError, AttributeError), open(self._path, encoding="ascii") as file:
            return {name: Suspicion(int(at), float(s), int(count)) for name, (at, s, count) in json.load(file).items()}
        return {}

    def _write(self, suspicions: Mapping[str, Suspicion]) -> None:
        """A disk that cannot be written to is reported by others."""
        with suppress(OSError):
            if not suspicions:
                os.unlink(self._path)
                return
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with open(descriptor, "w", encoding="ascii") as file:
                json.dump(
                    {name: (each.last_ns, each.seconds, each.inspections) for name, each in suspicions.items()}, file
                )


def is_suspicion(error: StoreError) -> bool:
    """Whether damage may look like this, so that the store is inspected at once."""
    return isinstance(error, CorruptStoreError | LethalOperationError) and not isinstance(error, LethalTextError)


def judge(found: StoreError, suspicion: Suspicion) -> CorruptStoreError:
    """What the inspections have found, as evidence. Raises TransientStoreError if it is none yet."""
    match found:
        case UnreadableStoreError():
            if suspicion.has_lasted(UNREADABLE_S):
                return CorruptStoreError(f"{found}, {suspicion}")
            raise found
        case SuspectStoreError():
            if suspicion.has_lasted(UNUSABLE_S):
                return CorruptStoreError(f"{found}, {suspicion}")
            raise TransientStoreError(f"{found}; this may pass, and is tried again")
        case CorruptStoreError():
            return found
    return CorruptStoreError(f"the store cannot be inspected: {found}")


def judge_sound(met: StoreError, suspicion: Suspicion) -> CorruptStoreError | None:
    """The same, if an inspection has found nothing."""
    if is_suspicion(met) and suspicion.has_lasted(UNUSABLE_S):
        return CorruptStoreError(f"{met}, {suspicion}, although the inspections found nothing")
    return None
