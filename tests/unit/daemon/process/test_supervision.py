from __future__ import annotations

import io
import json
import signal
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reposyncd.daemon.process.log import Log, logging_to, writer
from reposyncd.daemon.process.signals import SignalWaker
from reposyncd.daemon.process.supervision import (
    RESTART_S,
    RESTARTS_AT_MOST,
    RESTARTS_WITHIN_S,
    Deaths,
    HealthCheck,
    Restart,
    Watchdog,
)
from reposyncd.errors import BusyError


class Part:
    def __init__(self) -> None:
        self.is_responsive = True

    def check(self, what: str) -> HealthCheck:
        return HealthCheck(what, lambda: self.is_responsive)


def test_the_watchdog_is_fed_twice_in_its_time_and_not_more_often() -> None:
    fed: list[float] = []
    watchdog = Watchdog([], lambda: fed.append(now), 10.0)
    for tenth in range(400):
        now = tenth / 10
        due = watchdog.due(now)
        assert due is not None
        watchdog.check(now)
    assert fed == [0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 35.0]


def test_where_no_watchdog_waits_nothing_is_ever_due() -> None:
    watchdog = Watchdog([], lambda: None, None)
    assert watchdog.due(5.0) is None
    watchdog.check(6.0)
    assert watchdog.due(7.0) is None


@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), max_size=20))
def test_it_is_fed_only_while_every_part_is_well(rounds: list[list[bool]]) -> None:
    parts = [Part(), Part(), Part()]
    fed: list[float] = []
    watchdog = Watchdog([part.check(str(n)) for n, part in enumerate(parts)], lambda: fed.append(now), 2.0)
    expected = []
    for number, states in enumerate(rounds):
        now = float(number)
        for part, is_responsive in zip(parts, states, strict=True):
            part.is_responsive = is_responsive
        watchdog.check(now)
        if all(states):
            expected.append(now)
        assert watchdog.stalled == tuple(str(n) for n, is_responsive in enumerate(states) if not is_responsive)
    assert fed == expected


def test_what_stalls_for_a_moment_costs_no_feed() -> None:
    part, fed = Part(), list[float]()
    watchdog = Watchdog([part.check("a part")], lambda: fed.append(now), 120.0)
    now = 0.0
    watchdog.check(now)
    now, part.is_responsive = 60.0, False
    watchdog.check(now)
    part.is_responsive = True
    due = watchdog.due(now)
    assert due is not None and due <= 62.0
    now = due
    watchdog.check(now)
    assert fed == [0.0, due]


def test_what_dies_is_started_again_ever_later_and_given_up_when_it_dies_too_often() -> None:
    deaths = Deaths()
    now, waits = 0.0, []
    for _ in range(RESTARTS_AT_MOST):
        again = deaths.restart_at(now)
        assert again is not None
        waits.append(again - now)
        now = again
    assert waits == [RESTART_S * 2**number for number in range(RESTARTS_AT_MOST)]
    assert deaths.restart_at(now) is None
    assert deaths.restart_at(now + RESTARTS_WITHIN_S) == now + RESTARTS_WITHIN_S + RESTART_S


def test_a_part_that_died_is_told_of_once_and_started_when_it_is_time() -> None:
    started: list[float] = []
    told: list[str] = []
    restart = Restart("the part", lambda: started.append(now), lambda what, error: told.append(f"{what}: {error}"))
    now = 100.0
    assert restart.restart_if_due(now) is None
    restart.died(RuntimeError("a defect"))
    assert restart.restart_if_due(now) == restart.restart_if_due(now) == now + RESTART_S
    now += RESTART_S
    assert restart.restart_if_due(now) is None and restart.restart_if_due(now) is None
    assert (started, told) == ([now], ["the part: a defect"])


def test_a_part_that_cannot_be_started_is_tried_again_and_given_up() -> None:
    told: list[BaseException] = []

    def start() -> None:
        raise BusyError("somebody else is there")

    restart = Restart("the part", start, lambda what, error: told.append(error))
    restart.died(RuntimeError("a defect"))
    now = 0.0
    with pytest.raises(BusyError):
        while (again := restart.restart_if_due(now)) is not None:
            now = again
    assert [type(error) for error in told] == [RuntimeError, *[BusyError] * RESTARTS_AT_MOST]


def test_a_part_that_hangs_is_named_in_the_log_once() -> None:
    stream, part = io.StringIO(), Part()
    watchdog = Watchdog([part.check("the engine")], lambda: None, 2.0)
    with logging_to(Log(writer("json", {}, stream)), "info"):
        part.is_responsive = False
        for now in range(5):
            watchdog.check(float(now))
    [line] = [json.loads(each) for each in stream.getvalue().splitlines()]
    assert line["event"] == "stalled" and line["what"] == "the engine"


def test_a_signal_and_a_ring_from_another_thread_wake_the_main_thread() -> None:
    before = signal.getsignal(signal.SIGHUP)
    with SignalWaker(60.0) as waker:
        thread = threading.Thread(target=waker.wake)
        thread.start()
        assert waker.wait() == []
        thread.join()
        for _ in range(100_000):  # more than a pipe holds
            waker.wake()
        assert waker.wait() == [] and waker.wait(0.0) == []
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGHUP)
        assert waker.wait() == [signal.SIGHUP, signal.SIGHUP]
        assert waker.wait(0.0) == []
    assert signal.getsignal(signal.SIGHUP) is before
