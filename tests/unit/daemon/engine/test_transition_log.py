"""What the log is told of the repositories: what changed, once."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from reposyncd.daemon.engine.registry import RepoRegistry
from reposyncd.daemon.engine.repo_state import RepoState
from reposyncd.daemon.engine.snapshots import Coverage
from reposyncd.daemon.engine.transition_log import PATHS_AT_MOST, TransitionLog
from reposyncd.model import WHOLE, FileError, Progress, Scope
from reposyncd.store.manifest.catalog import Incident
from tests.unit.daemon.engine.repos import begin, current, new, paused, repo_of, result, succeed

APP = repo_of("app")


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> TransitionLog:
    caplog.set_level(logging.DEBUG, "reposyncd")
    return TransitionLog(1000)


@pytest.fixture
def registry(log: TransitionLog) -> RepoRegistry:
    """With one repository, which is current."""
    registry = RepoRegistry(log)
    current(registry)
    return registry


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, Any]]:
    """(event, reason) of each line since the last call."""
    found = [(vars(each)["log_event"].name, vars(each)["fields"].get("reason")) for each in caplog.records]
    caplog.clear()
    return found


def wait_for(registry: RepoRegistry, what: str) -> None:
    """The sync that is under way waits for that."""
    registry.change("app", lambda state: state.advance(Progress("index", trouble=what), 5.0))


def test_a_trouble_is_told_once_and_that_it_is_over(registry: RepoRegistry, caplog: pytest.LogCaptureFixture) -> None:
    assert told(caplog) == []
    registry.change("app", begin)
    for _ in range(3):
        wait_for(registry, "the disk is full")
    assert told(caplog) == [("waiting", "the disk is full")]
    wait_for(registry, "another program holds the lock")
    assert told(caplog) == [("waiting", "another program holds the lock")]
    wait_for(registry, "")
    assert told(caplog) == []  # it is not over while the work goes on
    registry.change("app", succeed)
    registry.change("app", RepoState.end)
    registry.change("app", RepoState.end)
    assert told(caplog) == [("recovered", "another program holds the lock")]


def test_each_kind_of_trouble_has_its_own_event(registry: RepoRegistry, caplog: pytest.LogCaptureFixture) -> None:
    registry.change("app", lambda state: state.cover(Coverage("poll", 1, "the limit is reached"), 0.0, 60.0))
    registry.change("app", lambda state: state.failed("a defect", 0.0))
    registry.change("app", lambda state: state.missing("/src/app is not there", 0.0))
    assert told(caplog) == [
        ("unwatched", "the limit is reached"),
        ("failed", "a defect"),
        ("missing", "/src/app is not there"),
    ]


def test_a_trouble_that_lasts_is_not_told_again_by_each_try(
    registry: RepoRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        registry.change("app", begin)
        registry.change("app", lambda state: state.failed("a defect", 0.0))
        registry.change("app", RepoState.end)
    assert told(caplog) == [("failed", "a defect")]


def test_a_pause_mends_nothing_and_a_sync_of_what_is_paused_does(
    registry: RepoRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    registry.change("app", lambda state: state.failed("a defect", 0.0))
    registry.change("app", lambda state: state.pause(paused(APP)))
    assert told(caplog) == [("failed", "a defect")]
    registry.change("app", begin)
    registry.change("app", succeed)
    registry.change("app", RepoState.end)
    assert told(caplog) == [("recovered", "a defect")]


def test_the_engine_that_follows_a_dead_one_repeats_nothing_and_tells_that_it_is_over(
    log: TransitionLog, registry: RepoRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    log.synced(APP, WHOLE, result(), {}, 7)
    registry.change("app", lambda state: state.missing("/src/app is not there", 0.0))
    told(caplog)
    registry.engine_died("the engine has died: a defect", 0.0)
    following = RepoRegistry(log)
    following.track(new())
    following.change("app", lambda state: state.missing("/src/app is not there", 0.0))
    assert told(caplog) == []
    following.change("app", begin)
    following.change("app", succeed)
    log.synced(APP, WHOLE, result(), {}, 8)
    following.change("app", RepoState.end)
    assert told(caplog) == [("recovered", "/src/app is not there")]


def test_a_sync_is_told_if_it_is_news(log: TransitionLog, caplog: pytest.LogCaptureFixture) -> None:
    part = Scope(frozenset({"src"}))
    for scope, added in ((WHOLE, 0), (WHOLE, 0), (part, 0), (part, 2), (WHOLE, 3)):
        log.synced(APP, scope, result(added), {}, 7)
    assert [event for event, _ in told(caplog)] == ["synced", "updated", "synced"]
    log.untracked(APP)
    log.synced(APP, WHOLE, result(), {}, 8)
    assert [event for event, _ in told(caplog)] == ["synced"]


def test_a_file_that_cannot_be_read_is_named_when_it_is_news_and_of_many_only_some(
    log: TransitionLog, caplog: pytest.LogCaptureFixture
) -> None:
    log.synced(APP, WHOLE, result(), {}, None)
    told(caplog)
    for _ in range(2):
        log.synced(APP, WHOLE, result(), {"a.py": FileError("a.py", "I/O error")}, None)
    assert told(caplog) == [("not_indexed", "I/O error")]
    log.synced(APP, WHOLE, result(), {}, None)
    names = [f"{number}.py" for number in range(PATHS_AT_MOST + 5)]
    log.synced(APP, WHOLE, result(), {name: FileError(name, "I/O error") for name in names}, None)
    lines = [vars(each)["fields"]["path"] for each in caplog.records]
    assert len(lines) == PATHS_AT_MOST + 1 and lines[-1] == "5 more files"


def test_damage_is_told_by_the_service_that_found_it(log: TransitionLog, caplog: pytest.LogCaptureFixture) -> None:
    before = Incident(900, "store", "of yesterday", "/state/quarantine/a")
    now = Incident(1100, "manifest", "of now", "/state/quarantine/b")
    log.incidents([before, now])
    log.incidents([before, now])
    assert told(caplog) == [("damaged", "of now")]
