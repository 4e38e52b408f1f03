"""Decides whether a store that causes errors is damaged. A store is replaced only if an inspection finds damage, and
not because of the errors themselves."""

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
"""A file in the state directory. The suspicion must outlive the process, since each sync by hand is a process of its
own. It is recorded for each repository, since success in one says nothing about the files that another one needs."""

BACK_OFF_S = (1.0, 3.0)
"""How long to wait before each of the inspections that must agree on damage, in seconds. Most faults are over by
then."""

INSPECTIONS = 5
"""How many inspections are needed before time counts as evidence, since the clock may jump or the machine sleep."""

UNREADABLE_S = 120.0
"""If the disk cannot read a file of the store for this long, the file is lost. By then, a controller that was reset
works again, and the kernel has retried each sector itself."""

UNUSABLE_S = 600.0
"""If a store fails whenever it is used or inspected, for this long and without storing a single batch, it is replaced,
whatever the reason. Inspections recognise a disk that is full or read-only; this is for unexpected faults."""

GAP_S = 150.0
"""The largest part of the time between two inspections that counts, so that a night without inspections, or a change of
the clock, is no evidence. INSPECTIONS inspections at this distance take just over UNUSABLE_S."""

_ELSEWHERE = (StoreBusyError, NoSpaceError, EmbedderUnavailableError, ChunkerLostError, LethalTextError)
"""Errors that are known to have another cause than the store."""

_PASSING_AT_FIRST = 3
"""After how many errors in a row that usually pass the store is inspected."""

_POLL_S = 0.2
"""Time between two checks whether to stop."""

_SECOND_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Suspicion:
    """For how long the store has been suspected."""

    last_ns: int
    """when it was last inspected, nanoseconds since the epoch"""
    seconds: float = 0.0
    """time between the inspections; no gap counts for more than GAP_S"""
    inspections: int = 0

    def again(self, now_ns: int) -> Suspicion:
        """The suspicion after one more inspection."""
        gap_s = (now_ns - self.last_ns) / _SECOND_NS
        return Suspicion(now_ns, self.seconds + min(max(gap_s, 0.0), GAP_S), self.inspections + 1)

    def has_lasted(self, seconds: float) -> bool:
        """Whether it has lasted this long, by the clock and by the number of inspections."""
        return self.inspections >= INSPECTIONS and self.seconds >= seconds

    def __str__(self) -> str:
        return f"for {self.seconds / 60:.0f} minutes, in {self.inspections} inspections"


class DamageCheck:
    """Decides on the store of a state directory. The caller holds the state lock.

    `of` returns the name of the repository that met the error, "" if none is known. `inspect` returns if the store is
    sound, and raises like `StoreAdmin.inspect`. `wait` is called now and then during waits, and raises
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
        """Something was stored, so the suspicion ends."""
        self._failures = 0
        suspicions = self._read()
        left = {name: each for name, each in suspicions.items() if name not in (self._of(), "")}
        if left != suspicions:
            self._write(left)

    def is_due(self, error: StoreError) -> bool:
        """Whether the store has to be inspected after this error."""
        if isinstance(error, _ELSEWHERE):
            return False
        self._failures += 1
        return is_suspicion(error) or (isinstance(error, TransientStoreError) and self._failures >= _PASSING_AT_FIRST)

    def evidence(self, error: StoreError) -> CorruptStoreError | None:
        """Inspects the store after this error. Returns the evidence that it is damaged; None if it is sound. Nobody may
        have it open.

        Raises TransientStoreError if that is not known yet.
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
        assert found is not None  # noqa: S101 - if it were None, the store would be sound
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
        """Does nothing if the disk cannot be written to: others report that."""
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
    """Whether this error may come from damage, so that the store is inspected at once."""
    return isinstance(error, CorruptStoreError | LethalOperationError) and not isinstance(error, LethalTextError)


def judge(found: StoreError, suspicion: Suspicion) -> CorruptStoreError:
    """The findings of the inspections, as evidence. Raises TransientStoreError if they are no evidence yet."""
    match found:
        case UnreadableStoreError():
            if suspicion.has_lasted(UNREADABLE_S):
                return CorruptStoreError(f"{found}, {suspicion}")
            raise found
        case SuspectStoreError():
            if suspicion.has_lasted(UNUSABLE_S):
                return CorruptStoreError(f"{found}, {suspicion}")
            raise TransientStoreError(f"{found}; this may pass, and will be retried")
        case CorruptStoreError():
            return found
    return CorruptStoreError(f"the store cannot be inspected: {found}")


def judge_sound(met: StoreError, suspicion: Suspicion) -> CorruptStoreError | None:
    """The same, if an inspection has found nothing."""
    if is_suspicion(met) and suspicion.has_lasted(UNUSABLE_S):
        return CorruptStoreError(f"{met}, {suspicion}, although the inspections found nothing")
    return None
