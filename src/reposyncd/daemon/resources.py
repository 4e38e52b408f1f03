"""Makes way for other programs on the machine: low priority, a limited rate, and pauses while resources are short."""

from __future__ import annotations

import ctypes
import gc
import math
import os
import platform
import time
from collections.abc import Callable
from contextlib import suppress

from reposyncd.config.values import LimitsConfig

_IOPRIO_SET = {"x86_64": 251, "aarch64": 30, "armv7l": 314, "i686": 289, "ppc64le": 273, "s390x": 282, "riscv64": 30}
"""Numbers of the system call ioprio_set(2), for which the C library has no function. ioprio_get(2) is the next one."""

_BEST_EFFORT = 2 << 13 | 7
"""The ordinary I/O class, at its lowest level. In the idle class, indexing a saved file would wait for any backup."""

RESOURCE_CHECK_S = 30.0
"""Time between two checks whether long work has to wait for mains power or for memory."""

_IDLE = 3
"""The idle I/O class, which the systemd units choose."""

SUSPENDED_S = 5.0
"""If the difference of the clocks has grown by this much, the machine was suspended."""


def lower_priority(nice: int) -> None:
    """Lowers the priority of this process, its threads and its future children: at least this niceness, and the lowest
    level of the ordinary I/O class unless it is in the idle class already. Ignores what the system refuses or does not
    support."""
    number = _IOPRIO_SET.get(platform.machine())
    for thread in _threads():  # Linux has a priority for each thread; new threads inherit it
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, max(nice, os.getpriority(os.PRIO_PROCESS, thread)))
        if number and ctypes.CDLL(None).syscall(number + 1, 1, thread) >> 13 != _IDLE:
            ctypes.CDLL(None).syscall(number, 1, thread, _BEST_EFFORT)


def _threads() -> list[int]:
    """The ids of this process's threads. If they cannot be read, 0, which means the calling thread."""
    try:
        return [int(name) for name in os.listdir("/proc/self/task")]
    except OSError:
        return [0]


def return_memory() -> None:
    """Returns unused memory to the system after long work. Takes 0.1 s. Only glibc has malloc_trim(3)."""
    gc.collect()
    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


class ResourceGate:
    """Decides whether long work may run. A file that is absent or unreadable is no reason against it.

    For one thread. Any thread may read `reason`.
    """

    def __init__(
        self,
        limits: LimitsConfig,
        *,
        power: str = "/sys/class/power_supply",
        pressure: str = "/proc/pressure/memory",
    ) -> None:
        """See `reconfigure`. `power` and `pressure` are the kernel's files about these resources."""
        self._power = power
        self._pressure = pressure
        self.reconfigure(limits)

    def reconfigure(self, limits: LimitsConfig) -> None:
        """`limits.on_battery`: whether long work may run without mains power. `limits.memory_pressure`: it may only run
        if processes wait for memory for at most this percentage of the time (0: it may always run)."""
        self._limits = limits
        self._reason: str | None = None
        self._next_check = -math.inf

    @property
    def reason(self) -> str | None:
        """Why long work may not run, as of the last check; None if it may."""
        return self._reason

    def allowed_from(self, now: float) -> float:
        """From when on long work may run: now, or the time of the next check at the earliest."""
        if now >= self._next_check:
            self._reason, self._next_check = self.reason_to_wait(), now + RESOURCE_CHECK_S
        return now if self._reason is None else self._next_check

    def reason_to_wait(self) -> str | None:
        """Why long work must not run now; None if it may."""
        if not self._limits.on_battery and self._is_on_battery():
            return "on battery"
        if self._limits.memory_pressure:
            found = self._found_pressure()
            if found > self._limits.memory_pressure:
                return f"memory is short: processes waited for it {found:g} % of the time"
        return None

    def _is_on_battery(self) -> bool:
        """Whether a battery is discharging and no mains adapter is online (kernel: sysfs-class-power)."""
        discharges = False
        with suppress(OSError):
            for name in os.listdir(self._power):
                place = os.path.join(self._power, name)
                if _text(place, "type") in ("Mains", "USB") and _text(place, "online") == "1":
                    return False
                # A wireless mouse also has a battery. Its scope is "Device".
                if _text(place, "scope") != "Device":
                    discharges = discharges or _text(place, "status") == "Discharging"
        return discharges

    def _found_pressure(self) -> float:
        """The percentage of the last ten seconds in which a process waited for memory (kernel: accounting/psi)."""
        with suppress(OSError, ValueError), open(self._pressure, encoding="ascii") as file:
            for line in file:
                kind, *fields = line.split()
                if kind == "some":
                    return float(dict(field.split("=") for field in fields)["avg10"])
        return 0.0


class RateLimit:
    """At most `per_s` chunks per second on average, in bursts of at most one second's worth. 0: no limit. Pure."""

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._paid_until = 0.0

    def delay_s(self, chunks: int, now_s: float) -> float:
        """Seconds to wait before this many further chunks. They count from now on."""
        if not self._per_s:
            return 0.0
        begin = max(self._paid_until, now_s - 1.0)
        self._paid_until = begin + chunks / self._per_s
        return max(0.0, begin - now_s)


class SuspendDetector:
    """Notices that the machine was suspended: one of two clocks stops in that time."""

    def __init__(
        self,
        boottime: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._boottime = boottime
        self._monotonic = monotonic
        self._gap = boottime() - monotonic()

    def was_suspended(self) -> bool:
        """Whether the machine was suspended since the last call."""
        gap = self._boottime() - self._monotonic()
        before, self._gap = self._gap, gap
        return gap - before > SUSPENDED_S


def _text(place: str, name: str) -> str:
    try:
        with open(os.path.join(place, name), encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""
