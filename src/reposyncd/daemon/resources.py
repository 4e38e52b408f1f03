"""Being a good guest on somebody's machine: low priority, a bounded rate, and waiting when resources are short."""

from __future__ import annotations

import ctypes
import gc
import math
import os
import platform
import time
from collections.abc import Callable
from contextlib import suppress

_IOPRIO_SET = {"x86_64": 251, "aarch64": 30, "armv7l": 314, "i686": 289, "ppc64le": 273, "s390x": 282, "riscv64": 30}
"""Number of the system call ioprio_set(2), for which the C library has no function; ioprio_get(2) is the next one."""

_BEST_EFFORT = 2 << 13 | 7
"""The ordinary I/O class, at its lowest level. Not the idle class: a save would wait for somebody's backup."""

LOOK_S = 30.0
"""Between two looks at whether long work has to wait for the battery or for memory."""

_IDLE = 3
"""The idle I/O class, in which the units put it."""

SUSPENDED_S = 5.0
"""A gap between the clocks that is no rounding."""


def lower_priority(nice: int) -> None:
    """Makes this process, its threads and those that it will start, yield to others: at least this niceness, the lowest
    level of the ordinary I/O class, unless whoever started it has put it into the idle one. What is refused, or unknown
    here, is left out."""
    number = _IOPRIO_SET.get(platform.machine())
    for thread in _threads():  # Linux has a priority for each of them; a new one inherits it
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, max(nice, os.getpriority(os.PRIO_PROCESS, thread)))
        if number and ctypes.CDLL(None).syscall(number + 1, 1, thread) >> 13 != _IDLE:
            ctypes.CDLL(None).syscall(number, 1, thread, _BEST_EFFORT)


def _threads() -> list[int]:
    """Ids of this process's; 0, which is the one that asks, if they cannot be had."""
    try:
        return [int(name) for name in os.listdir("/proc/self/task")]
    except OSError:
        return [0]


def return_memory() -> None:
    """Gives back to the system what long work has left unused; a tenth of a second. glibc alone has malloc_trim(3)."""
    gc.collect()
    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


class ResourceGate:
    """Whether long work may go on. Files that are absent or unreadable say nothing."""

    reason: str | None = None
    """why it may not, as of the last look"""
    again: float = -math.inf
    """when it is to be looked at again, on the clock of `may_go_on`"""

    def __init__(
        self,
        *,
        on_battery: bool,
        memory_pressure: float,
        power: str = "/sys/class/power_supply",
        pressure: str = "/proc/pressure/memory",
    ) -> None:
        """`on_battery`: whether it may without mains; `memory_pressure`: up to which share of time, in percent, in
        which something waits for memory (0: whatever it is)."""
        self._on_battery = on_battery
        self._memory_pressure = memory_pressure
        self._power = power
        self._pressure = pressure

    def may_go_on(self, now: float) -> float:
        """When it may, at the earliest: now, or at the next look."""
        if now >= self.again:
            self.reason, self.again = self.reason_to_wait(), now + LOOK_S
        return now if self.reason is None else self.again

    def reason_to_wait(self) -> str | None:
        """Why it may not; None if it may."""
        if not self._on_battery and self._is_on_battery():
            return "on battery"
        if self._memory_pressure:
            found = self._found_pressure()
            if found > self._memory_pressure:
                return f"memory is short: something waited for it {found:g} % of the time"
        return None

    def _is_on_battery(self) -> bool:
        """Some battery discharges, and no mains adapter is online (kernel: sysfs-class-power)."""
        discharges = False
        with suppress(OSError):
            for name in os.listdir(self._power):
                place = os.path.join(self._power, name)
                if _text(place, "type") in ("Mains", "USB") and _text(place, "online") == "1":
                    return False
                # A mouse has a battery too; its scope says that it is a device's.
                if _text(place, "scope") != "Device":
                    discharges = discharges or _text(place, "status") == "Discharging"
        return discharges

    def _found_pressure(self) -> float:
        """Percent of the last ten seconds (kernel: accounting/psi)."""
        with suppress(OSError, ValueError), open(self._pressure, encoding="ascii") as file:
            for line in file:
                kind, *fields = line.split()
                if kind == "some":
                    return float(dict(field.split("=") for field in fields)["avg10"])
        return 0.0


class Rate:
    """At most `per_s` chunks each second on average, with a burst of one second's; 0: no limit. Pure."""

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._paid_until = 0.0

    def delay_s(self, chunks: int, now_s: float) -> float:
        """How long to wait before so many more. The call counts them."""
        if not self._per_s:
            return 0.0
        begin = max(self._paid_until, now_s - 1.0)
        self._paid_until = begin + chunks / self._per_s
        return max(0.0, begin - now_s)


class Sleep:
    """Notices that the machine was suspended: one of the clocks stood still."""

    def __init__(
        self,
        boottime: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._boottime = boottime
        self._monotonic = monotonic
        self._gap = boottime() - monotonic()

    def was_suspended(self) -> bool:
        """Whether it was, since this was asked before."""
        gap = self._boottime() - self._monotonic()
        before, self._gap = self._gap, gap
        return gap - before > SUSPENDED_S


def _text(place: str, name: str) -> str:
    try:
        with open(os.path.join(place, name), encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""
