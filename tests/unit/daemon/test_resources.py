"""When long work waits, how fast it is, and how low its priority."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reposyncd.config.values import LimitsConfig
from reposyncd.daemon.resources import RateLimit, ResourceGate, SuspendDetector


def supply(place: Path, name: str, **files: str) -> None:
    (place / name).mkdir(parents=True)
    for file, content in files.items():
        (place / name / file).write_text(content + "\n")


def gate(tmp_path: Path, *, on_battery: bool = False, memory_pressure: float = 0) -> ResourceGate:
    return ResourceGate(
        LimitsConfig(on_battery=on_battery, memory_pressure=memory_pressure),
        power=str(tmp_path / "power"),
        pressure=str(tmp_path / "memory"),
    )


def test_on_battery_it_waits_unless_it_may(tmp_path: Path) -> None:
    supply(tmp_path / "power", "BAT0", type="Battery", status="Discharging")
    supply(tmp_path / "power", "AC", type="Mains", online="0")
    assert gate(tmp_path).reason_to_wait() == "on battery"
    assert gate(tmp_path, on_battery=True).reason_to_wait() is None
    (tmp_path / "power" / "AC" / "online").write_text("1\n")
    assert gate(tmp_path).reason_to_wait() is None


def test_the_battery_of_a_mouse_is_not_the_machines(tmp_path: Path) -> None:
    supply(tmp_path / "power", "mouse", type="Battery", status="Discharging", scope="Device")
    assert gate(tmp_path).reason_to_wait() is None


def test_a_machine_without_batteries_or_pressure_never_waits(tmp_path: Path) -> None:
    assert gate(tmp_path, memory_pressure=1).reason_to_wait() is None


def test_it_waits_while_something_waits_for_memory(tmp_path: Path) -> None:
    (tmp_path / "memory").write_text(
        "some avg10=12.30 avg60=1.00 avg300=0.10 total=5\nfull avg10=99.00 avg60=0.00 avg300=0.00 total=0\n"
    )
    assert gate(tmp_path, memory_pressure=12).reason_to_wait() == (
        "memory is short: processes waited for it 12.3 % of the time"
    )
    assert gate(tmp_path, memory_pressure=13).reason_to_wait() is None
    assert gate(tmp_path, memory_pressure=0).reason_to_wait() is None


@given(
    per_s=st.floats(1, 1000),
    batches=st.lists(st.tuples(st.integers(1, 2000), st.floats(0, 3)), min_size=1, max_size=50),
)
def test_over_any_time_no_more_than_the_rate_and_a_burst_begins(per_s: float, batches: list[tuple[int, float]]) -> None:
    rate = RateLimit(per_s)
    now, begun = 100.0, 0.0
    for chunks, pause in batches:
        now += pause + rate.delay_s(chunks, now + pause)
        assert begun <= per_s * (now - 100.0 + 1.0) * 1.000001
        begun += chunks


def test_no_rate_is_no_limit() -> None:
    assert RateLimit(0).delay_s(1_000_000, 5.0) == 0.0


def test_a_suspended_machine_is_noticed_once() -> None:
    boottime, monotonic = 50.0, 10.0
    sleep = SuspendDetector(lambda: boottime, lambda: monotonic)
    boottime, monotonic = boottime + 7200, monotonic + 7200
    assert not sleep.was_suspended()
    boottime += 60
    assert sleep.was_suspended()
    assert not sleep.was_suspended()


@pytest.mark.parametrize(("before", "asked"), [(0, 10), (15, 10), (0, 0)])
def test_priority_is_lowered_and_never_raised_and_children_have_it_too(before: int, asked: int) -> None:
    code = (
        f"import os, subprocess, sys; os.nice({before})\n"
        "from reposyncd.daemon.resources import lower_priority\n"
        f"lower_priority({asked})\n"
        "subprocess.run([sys.executable, '-c', 'import os; print(os.nice(0))'])\n"
        "import ctypes, platform\n"
        "if platform.machine() == 'x86_64': print(hex(ctypes.CDLL(None).syscall(252, 1, 0)))\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    lowest = 19  # nice(2)
    assert int(out[0]) == max(min(os.nice(0) + before, lowest), asked)
    assert out[1:] in ([], ["0x4007"])
