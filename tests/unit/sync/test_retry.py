"""Trouble that passes, on a clock that the test turns."""

from __future__ import annotations

import pytest

from reposyncd.errors import InterruptedSyncError, PermanentStoreError, TransientStoreError
from reposyncd.sync.retry import LONGEST_WAIT_S, Retry


class Clock:
    """Time that passes in sleep only."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []
        self.told: list[str] = []
        self.stop = False

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def patience(self, seconds: float) -> Retry:
        def tell(error: TransientStoreError) -> None:
            self.told.append(str(error))
            self.waits.append(self.now)

        return Retry(
            seconds,
            on_trouble=tell,
            should_stop=lambda: self.stop,
            monotonic=lambda: self.now,
            sleep=self.sleep,
        )


def test_an_operation_that_works_is_done_once_and_nobody_is_told() -> None:
    clock = Clock()
    assert clock.patience(60).run(lambda: "done") == "done"
    assert clock.told == []
    assert clock.now == 0


def test_it_is_tried_again_until_the_trouble_has_passed() -> None:
    clock = Clock()

    def operation() -> float:
        if clock.now < 45:
            raise TransientStoreError("the disk is full")
        return clock.now

    assert 45 <= clock.patience(60).run(operation) <= 45 + LONGEST_WAIT_S
    assert set(clock.told) == {"the disk is full"}


def test_no_wait_is_longer_than_the_longest() -> None:
    clock = Clock()

    def operation() -> None:
        if clock.now < 3600:
            raise TransientStoreError("read-only")

    clock.patience(1e9).run(operation)
    gaps = [after - before for before, after in zip(clock.waits, clock.waits[1:], strict=False)]
    assert max(gaps) <= LONGEST_WAIT_S
    assert len(gaps) < 3600  # and it does not spin


def test_it_gives_up_with_the_last_error_when_patience_is_over() -> None:
    clock = Clock()

    def operation() -> None:
        raise TransientStoreError(f"at {clock.now:.0f}")

    with pytest.raises(TransientStoreError) as raised:
        clock.patience(60).run(operation)
    assert str(raised.value) == f"at {clock.now:.0f}"
    assert 60 <= clock.now <= 60 + LONGEST_WAIT_S


def test_without_patience_the_first_error_is_the_last() -> None:
    clock = Clock()
    tries: list[int] = []

    def operation() -> None:
        tries.append(1)
        raise TransientStoreError("busy")

    with pytest.raises(TransientStoreError):
        clock.patience(0).run(operation)
    assert len(tries) == 1


def test_progress_between_two_troubles_gives_the_second_its_own_time() -> None:
    clock = Clock()
    patience = clock.patience(60)
    tries: list[float] = []

    def operation() -> str:
        tries.append(clock.now)
        if clock.now > 300:
            return "done"
        if len(tries) % 2:
            patience.progress()
        raise TransientStoreError("now and then")

    assert patience.run(operation) == "done"


def test_what_will_not_pass_is_raised_at_once() -> None:
    clock = Clock()

    def operation() -> None:
        raise PermanentStoreError("never")

    with pytest.raises(PermanentStoreError):
        clock.patience(60).run(operation)
    assert clock.now == 0


def test_asked_to_stop_it_stops_waiting_and_says_for_what() -> None:
    clock = Clock()

    def operation() -> None:
        clock.stop = clock.now > 10
        raise TransientStoreError("the disk is full")

    with pytest.raises(InterruptedSyncError, match="the disk is full"):
        clock.patience(60).run(operation)
