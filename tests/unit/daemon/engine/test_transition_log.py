"""What the log is told of the repositories: what changed, once."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from reposyncd.daemon.engine.repo_state import Coverage, RepoState
from reposyncd.daemon.engine.transition_log import PATHS_AT_MOST, TransitionLog
from reposyncd.model import WHOLE, ChunkCounts, FileCounts, FileError, RootIdentity, Scope, SyncResult
from reposyncd.store.manifest.catalog import Incident, Repo
from reposyncd.sync.debounce import Debounce


@pytest.fixture
def transitions(caplog: pytest.LogCaptureFixture) -> TransitionLog:
    caplog.set_level(logging.DEBUG, "reposyncd")
    return TransitionLog(1000)


@pytest.fixture
def kept() -> RepoState:
    kept = RepoState(Repo(1, "app", "/src/app", RootIdentity(0, 0)), Debounce(1, 1), Debounce(1, 1), whole_due=0.0)
    kept.ready, kept.behind = True, False
    return kept


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, Any]]:
    """(event, reason) of each line since the last call."""
    found = [(vars(each)["log_event"].name, vars(each)["fields"].get("reason")) for each in caplog.records]
    caplog.clear()
    return found


def result(added: int = 0, files: int = 1) -> SyncResult:
    return SyncResult("app", "/src/app", FileCounts(total=files), ChunkCounts(total=added, added=added), 0, 0.1)


def test_a_trouble_is_told_once_and_that_it_is_over(
    log: TransitionLog, kept: RepoState, caplog: pytest.LogCaptureFixture
) -> None:
    log.state(kept)
    assert told(caplog) == []
    kept.trouble = "the disk is full"
    for _ in range(3):
        log.state(kept)
    assert told(caplog) == [("waiting", "the disk is full")]
    kept.trouble = "another program holds the lock"
    log.state(kept)
    assert told(caplog) == [("waiting", "another program holds the lock")]
    kept.trouble, kept.running = "", WHOLE
    log.state(kept)
    assert told(caplog) == []  # it is not over while the work goes on
    kept.running = None
    log.state(kept)
    log.state(kept)
    assert told(caplog) == [("recovered", "another program holds the lock")]


def test_each_kind_of_trouble_has_its_own_event(
    log: TransitionLog, kept: RepoState, caplog: pytest.LogCaptureFixture
) -> None:
    kept.coverage = Coverage("poll", reason="the limit is reached")
    log.state(kept)
    kept.failure = "a defect"
    log.state(kept)
    kept.missing, kept.failure = True, "/src/app is not there"
    log.state(kept)
    assert told(caplog) == [
        ("unwatched", "the limit is reached"),
        ("failed", "a defect"),
        ("missing", "/src/app is not there"),
    ]


def test_a_sync_is_told_if_it_is_news(log: TransitionLog, kept: RepoState, caplog: pytest.LogCaptureFixture) -> None:
    part = Scope(frozenset({"src"}))
    for scope, added in ((WHOLE, 0), (WHOLE, 0), (part, 0), (part, 2), (WHOLE, 3)):
        log.synced(kept, scope, result(added), 7)
    assert [event for event, _ in told(caplog)] == ["synced", "updated", "synced"]
    log.forget(kept.repo.root)
    log.synced(kept, WHOLE, result(), 8)
    assert [event for event, _ in told(caplog)] == ["synced"]


def test_a_file_that_cannot_be_read_is_named_when_it_is_news_and_of_many_only_some(
    log: TransitionLog, kept: RepoState, caplog: pytest.LogCaptureFixture
) -> None:
    log.synced(kept, WHOLE, result(), None)
    told(caplog)
    kept.unindexed = {"a.py": FileError("a.py", "I/O error")}
    for _ in range(2):
        log.synced(kept, WHOLE, result(), None)
    assert told(caplog) == [("not_indexed", "I/O error")]
    kept.unindexed = {}
    log.synced(kept, WHOLE, result(), None)
    names = [f"{number}.py" for number in range(PATHS_AT_MOST + 5)]
    kept.unindexed = {name: FileError(name, "I/O error") for name in names}
    log.synced(kept, WHOLE, result(), None)
    lines = [vars(each)["fields"]["path"] for each in caplog.records]
    assert len(lines) == PATHS_AT_MOST + 1 and lines[-1] == "5 more files"


def test_damage_is_told_by_the_service_that_found_it(log: TransitionLog, caplog: pytest.LogCaptureFixture) -> None:
    before = Incident(900, "store", "of yesterday", "/state/quarantine/a")
    now = Incident(1100, "manifest", "of now", "/state/quarantine/b")
    log.incidents([before, now])
    log.incidents([before, now])
    assert told(caplog) == [("damaged", "of now")]
