from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from reposyncd.daemon.events import UNEXPECTED


@pytest.fixture(autouse=True)
def nothing_is_unexpected(caplog: pytest.LogCaptureFixture, request: pytest.FixtureRequest) -> Iterator[None]:
    """A service that logs an error which nobody foresaw has a defect, however it goes on; but where a test makes it."""
    yield
    if request.node.get_closest_marker("provokes_the_unexpected"):
        return
    for when in ("setup", "call"):
        for record in caplog.get_records(when):
            assert getattr(record, "log_event", None) is not UNEXPECTED, record.__dict__["fields"]
    assert not [each for each in caplog.get_records("call") if each.levelno >= logging.CRITICAL]
