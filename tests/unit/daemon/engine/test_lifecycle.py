"""What an engine says of itself while it starts, works and stops."""

from __future__ import annotations

import time

import pytest

from reposyncd.daemon.engine.lifecycle import Heartbeat, Lifecycle
from reposyncd.errors import DaemonNotRunningError, OverloadedError, ReposyncError


def test_until_it_has_begun_a_request_is_to_be_repeated() -> None:
    lifecycle = Lifecycle()
    with pytest.raises(OverloadedError, match="the engine is starting; try again"):
        lifecycle.check_begun()
    lifecycle.begin()
    lifecycle.check_begun()


def test_while_it_waits_for_the_state_a_command_can_do_without_it() -> None:
    lifecycle = Lifecycle()
    lifecycle.wait_for_lock("process 7 is writing")
    with pytest.raises(DaemonNotRunningError, match="the engine is starting; process 7 is writing"):
        lifecycle.check_begun()
    lifecycle.wait_for_lock("")
    with pytest.raises(OverloadedError):
        lifecycle.check_begun()


def test_one_that_was_told_to_stop_is_told_from_one_that_has_died() -> None:
    told, dead = Lifecycle(), Lifecycle()
    for each in (told, dead):
        each.begin()
    told.request_stop()
    dead.end()
    assert told.is_stopping and told.is_stop_requested
    assert dead.is_stopping and not dead.is_stop_requested
    with pytest.raises(ReposyncError, match="the service is stopping"):
        told.check_begun()
    with pytest.raises(OverloadedError, match="has died"):
        dead.check_begun()


def test_a_thread_that_does_not_come_by_hangs_unless_it_has_said_so() -> None:
    heartbeat = Heartbeat(0.0)
    assert not heartbeat.is_responsive
    heartbeat.sleep_until(time.monotonic() + 60.0)
    assert heartbeat.is_responsive
    heartbeat.advance()
    assert not heartbeat.is_responsive
    with heartbeat.allow(60.0):
        heartbeat.advance()
        assert heartbeat.is_responsive
    assert not heartbeat.is_responsive
