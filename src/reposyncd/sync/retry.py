"""Retries an operation after faults that may pass, at growing intervals."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from reposyncd.errors import InterruptedSyncError, TransientStoreError

if TYPE_CHECKING:
    from tenacity import RetryCallState

T = TypeVar("T")

FIRST_WAIT_S = 0.5
"""The longest wait before the first retry. It doubles with each retry."""

LONGEST_WAIT_S = 20.0
"""The longest wait between two attempts. The end of a fault is noticed within this time plus that of one attempt."""

_POLL_S = 0.2
"""Time between two checks whether to stop."""


class Retry:
    """Repeats an operation as long as it raises TransientStoreError, with exponential backoff and jitter. The backoff
    starts again after each `progress`.

    Gives up and raises the last error when the fault has lasted for `patience_s` without `progress`; at once if that is
    0. `on_trouble` is called with the error after every failed attempt, before the wait. Raises InterruptedSyncError
    when asked to stop during a wait.
    """

    def __init__(
        self,
        patience_s: float,
        *,
        on_trouble: Callable[[TransientStoreError], None],
        should_stop: Callable[[], bool],
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._patience_s = patience_s
        self._on_trouble = on_trouble
        self._should_stop = should_stop
        self._monotonic = monotonic
        self._sleep = sleep
        self._since: float | None = None
        self._tries = 0
        self._error: TransientStoreError | None = None

    def progress(self) -> None:
        """Something was done, so the fault is over."""
        self._since, self._tries = None, 0

    def run(self, operation: Callable[[], T]) -> T:
        """Returns what the operation returns when it succeeds."""
        from tenacity import Retrying, retry_if_exception_type

        retrying = Retrying(
            retry=retry_if_exception_type(TransientStoreError),
            wait=self._back_off,
            stop=self._is_over,
            sleep=self._wait,
            reraise=True,
        )
        return retrying(operation)

    def _is_over(self, state: RetryCallState) -> bool:
        now = self._monotonic()
        self._since = now if self._since is None else self._since
        error = state.outcome.exception() if state.outcome else None
        self._error = error if isinstance(error, TransientStoreError) else None
        if now - self._since >= self._patience_s:
            return True
        if self._error:
            self._on_trouble(self._error)
        return False

    def _back_off(self, state: RetryCallState) -> float:
        self._tries += 1
        return random.uniform(0, min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** (self._tries - 1)))  # noqa: S311 - no secret

    def _wait(self, seconds: float) -> None:
        until = self._monotonic() + seconds
        while (left := until - self._monotonic()) > 0:
            if self._should_stop():
                raise InterruptedSyncError(
                    f"stopped, waiting: {self._error}; what is stored stays, and the next sync continues from there"
                )
            self._sleep(min(left, _POLL_S))
