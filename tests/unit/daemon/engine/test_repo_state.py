"""The state machine of one repository."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from reposyncd.daemon.engine.repo_state import MISSING_S, RECHECK_S, RETRY_S, RepoState
from reposyncd.daemon.engine.snapshots import Coverage, NextSync, RepoCondition, Stored
from reposyncd.daemon.engine.work import Flush, Work
from reposyncd.model import WHOLE, ChunkCounts, FileCounts, FileError, Progress, RootIdentity, Scope, SyncResult
from reposyncd.store.manifest.catalog import Repo

REPO = Repo(1, "app", "/src/app", RootIdentity(0, 0))
SETTLE_S, MAX_WAIT_S = 0.3, 3.0
FULL_SCANS_S = 3600.0
WATCHED, POLLED = Coverage("inotify"), Coverage("poll", 5, "the limit is reached")


def new(repo: Repo = REPO) -> RepoState:
    return RepoState(repo, settle_s=SETTLE_S, max_wait_s=MAX_WAIT_S, now=0.0)


@pytest.fixture
def state() -> RepoState:
    """Indexed, watched and current since second 10."""
    state = new()
    sync(state, 10.0, files=1)
    state.cover(WATCHED, 10.0, 60.0)
    state.recheck.take_all()
    assert state.condition == RepoCondition("current")
    return state


def result(files: int = 0, errors: tuple[FileError, ...] = ()) -> SyncResult:
    return SyncResult(
        "app", "/src/app", FileCounts(total=files), ChunkCounts(total=files, added=files), 0, 0.1, errors=errors
    )


def sync(state: RepoState, now: float, *, files: int = 0, errors: tuple[FileError, ...] = ()) -> Scope:
    """Does what is next, and succeeds."""
    started = state.begin(state.next_sync(now), now)
    state.synced(
        started,
        result(files, errors) if started.scope else None,
        now=now,
        at=1000.0 + now,
        next_full_scan=now + FULL_SCANS_S,
        retry_at_most_s=300.0,
    )
    state.end()
    return started.scope


def work() -> Work:
    return Work(dict)


# A first index and changes ----------------------------------------------------------------------------------


def test_a_new_repository_is_pending_and_its_first_index_is_due_at_once() -> None:
    state = new()
    assert state.condition == RepoCondition("pending")
    assert state.next_sync(5.0) == NextSync("app", "/src/app", 0.0, WHOLE, 1.0, is_first_index=True)


def test_one_that_was_indexed_before_is_scanned_at_the_start() -> None:
    state = RepoState(REPO, settle_s=1, max_wait_s=1, now=5.0, stored=Stored("app-1", 2, 3), synced_at=99.0)
    assert state.next_sync(5.0) == NextSync("app", "/src/app", 5.0, WHOLE)
    assert state.snapshot().synced_at == 99.0 and state.snapshot().is_indexed


def test_after_a_full_scan_it_is_current_until_the_next_one_is_due(state: RepoState) -> None:
    assert state.next_sync(11.0) == NextSync("app", "/src/app", 10.0 + FULL_SCANS_S, WHOLE)
    snapshot = state.snapshot()
    assert (snapshot.synced_at, snapshot.last_full_sync) == (1010.0, result(1))


def test_a_change_is_due_when_it_has_settled_and_a_part_is_synced(state: RepoState) -> None:
    assert state.hint("src", False, 20.0)
    assert not state.hint("src", False, 20.1)
    assert state.condition == RepoCondition("pending")
    assert state.next_sync(20.2).when == 20.1 + SETTLE_S
    assert state.next_sync(20.2, stretch=2.0).when == 20.1 + 2.0 * SETTLE_S
    assert sync(state, 21.0, files=1) == Scope(frozenset({"src"}))
    assert state.condition == RepoCondition("current")
    assert state.next_sync(21.0).when == 21.0 + RECHECK_S  # once more, when the times are old enough


def test_a_part_leaves_the_result_of_the_last_full_scan_and_when_the_next_one_is_due(state: RepoState) -> None:
    state.hint("src", False, 20.0)
    sync(state, 21.0, files=1)
    state.recheck.take_all()
    assert state.last_full_sync == result(1) and state.synced_at == 1021.0
    assert state.next_sync(22.0).when == 10.0 + FULL_SCANS_S


def test_a_full_scan_that_found_nothing_has_nothing_to_look_at_once_more(state: RepoState) -> None:
    state.scan_soon(20.0)
    assert sync(state, 20.0).is_whole
    assert len(state.recheck) == 0


def test_while_a_first_index_runs_parts_can_go_first_once_files_are_indexed() -> None:
    state = new()
    state.begin(state.next_sync(0.0), 0.0)
    state.advance(Progress("scan"), 1.0)
    assert not state.has_only_parts
    state.advance(Progress("index", 2, 9, 30), 2.0, Stored("app-1", 2, 30))
    assert state.has_only_parts
    assert state.condition == RepoCondition("syncing")
    snapshot = state.snapshot()
    assert snapshot.pace == (2.0, 2, 30) and snapshot.stored.collection == "app-1" and snapshot.progress


# What ends a sync -------------------------------------------------------------------------------------------


def test_a_failure_is_told_until_a_sync_succeeds_and_needs_a_full_scan(state: RepoState) -> None:
    state.hint("src", False, 20.0)
    state.begin(state.next_sync(21.0), 21.0)
    state.failed("a defect", 21.0)
    state.end()
    assert state.condition == RepoCondition("failed", "a defect")
    assert state.next_sync(22.0) == NextSync("app", "/src/app", 21.0 + RETRY_S, WHOLE)
    state.begin(state.next_sync(90.0), 90.0)
    assert state.condition == RepoCondition("failed", "a defect")
    state.end()
    sync(state, 91.0)
    assert state.condition == RepoCondition("current")


def test_what_an_interrupted_part_was_to_do_is_dirty_again(state: RepoState) -> None:
    state.hint("src", False, 20.0)
    started = state.begin(state.next_sync(21.0), 21.0)
    assert len(state.changes) == 0
    state.interrupted(started.scope, 22.0)
    state.end()
    assert sync(state, 23.0) == Scope(frozenset({"src"}))


def test_an_interrupted_full_scan_is_due_at_once_and_parts_stay_possible(state: RepoState) -> None:
    state.scan_soon(20.0)
    started = state.begin(state.next_sync(20.0), 20.0)
    state.interrupted(started.scope, 21.0)
    state.end()
    assert state.condition == RepoCondition("pending")
    assert state.next_sync(21.0) == NextSync("app", "/src/app", 21.0, WHOLE)
    assert state.has_only_parts


def test_one_whose_tree_has_to_be_scanned_as_a_whole_syncs_no_parts_before(state: RepoState) -> None:
    state.hint("src", False, 20.0)
    state.require_full_scan(21.0)
    assert state.condition == RepoCondition("pending") and not state.has_only_parts
    assert sync(state, 21.0) == WHOLE
    assert state.condition == RepoCondition("current") and state.has_only_parts


def test_what_a_sync_waits_for_is_told_until_it_goes_on(state: RepoState) -> None:
    state.hint("src", False, 20.0)
    state.begin(state.next_sync(21.0), 21.0)
    state.advance(Progress("index", trouble="the disk is full"), 22.0)
    state.advance(Progress("index", trouble="the disk is still full"), 23.0)
    assert state.condition == RepoCondition("degraded", "the disk is still full", is_waiting=True)
    assert state.snapshot().waiting_since == 22.0
    state.advance(Progress("index"), 24.0)
    assert state.condition == RepoCondition("syncing")
    state.end()
    assert state.snapshot().running is None and state.snapshot().progress is None


def test_a_root_that_is_missing_is_looked_for_and_nothing_is_watched(state: RepoState) -> None:
    state.hint("src", False, 20.0)
    state.missing("it is gone", 21.0)
    assert state.condition == RepoCondition("missing", "it is gone")
    assert state.coverage == Coverage() and len(state.changes) == 0
    assert state.next_sync(22.0) == NextSync("app", "/src/app", 21.0 + MISSING_S, WHOLE)
    sync(state, 30.0)
    assert state.condition == RepoCondition("current")


def test_for_how_long_it_is_missing_is_counted_from_the_first_time_on(state: RepoState) -> None:
    state.missing("it is gone", 100.0)
    state.missing("it is gone", 105.0)
    assert state.count_missing(110.0) == 10.0
    assert state.count_missing(111.0) == 1.0


# Coverage ---------------------------------------------------------------------------------------------------


def test_a_tree_that_is_not_watched_completely_is_degraded_and_scanned_more_often(state: RepoState) -> None:
    state.cover(POLLED, 20.0, 60.0)
    assert state.condition == RepoCondition("degraded", POLLED.reason)
    assert state.next_sync(20.0).when == 80.0
    state.cover(POLLED, 30.0, 60.0)
    assert state.next_sync(30.0).when == 80.0


# Pause ------------------------------------------------------------------------------------------------------


def test_while_it_is_paused_nothing_is_due_and_no_event_counts(state: RepoState) -> None:
    state.hint("src", False, 20.0)
    state.pause(replace(REPO, paused=True))
    assert state.condition.state == "paused" and "reposyncd resume app" in state.condition.reason
    assert not state.hint("src", False, 21.0)
    assert state.next_sync(99.0).when == math.inf
    assert state.coverage == Coverage()


def test_one_that_is_resumed_is_scanned(state: RepoState) -> None:
    state.pause(replace(REPO, paused=True))
    state.resume(REPO, 30.0)
    assert state.condition == RepoCondition("pending")
    assert state.next_sync(30.0) == NextSync("app", "/src/app", 30.0, WHOLE)


def test_what_was_wrong_before_a_pause_is_found_out_anew_after_it(state: RepoState) -> None:
    state.missing("it is gone", 20.0)
    state.pause(replace(REPO, paused=True))
    assert not state.snapshot().is_missing
    state.resume(REPO, 30.0)
    assert state.condition == RepoCondition("pending")


def test_a_sync_by_hand_of_one_that_is_paused_leaves_it_paused(state: RepoState) -> None:
    state.pause(replace(REPO, paused=True))
    state.request_sync(work())
    state.begin(state.next_sync(20.0), 20.0)
    assert state.condition == RepoCondition("syncing")
    state.end()
    assert state.condition.state == "paused"


# Configuration and damage -----------------------------------------------------------------------------------


def test_another_configuration_is_a_reason_to_scan_and_counts_for_what_is_dirty(state: RepoState) -> None:
    state.hint("src", False, 20.0)
    state.reconfigure(1.0, 5.0, is_index_changed=False, now=20.0)
    assert state.changes.due() == 21.0
    assert state.next_sync(20.0) == NextSync("app", "/src/app", 20.0, WHOLE)
    assert state.has_only_parts


def test_with_another_index_it_is_not_current_before_a_full_scan(state: RepoState) -> None:
    state.reconfigure(1.0, 5.0, is_index_changed=True, now=20.0)
    assert state.condition == RepoCondition("pending") and not state.has_only_parts


def test_one_that_is_paused_stays_so_with_another_configuration(state: RepoState) -> None:
    state.pause(replace(REPO, paused=True))
    state.reconfigure(1.0, 5.0, is_index_changed=True, now=20.0)
    state.invalidate(20.0)
    assert state.next_sync(99.0).when == math.inf


def test_a_damaged_store_makes_a_full_scan_due(state: RepoState) -> None:
    state.invalidate(20.0)
    assert state.condition == RepoCondition("pending")
    assert state.next_sync(20.0) == NextSync("app", "/src/app", 20.0, WHOLE)


def test_lost_events_and_a_sleep_make_it_look_everywhere(state: RepoState) -> None:
    state.hint("", True, 20.0)
    assert state.condition == RepoCondition("pending")
    assert sync(state, 20.0 + SETTLE_S).is_whole
    state.scan_soon(30.0)
    assert state.condition == RepoCondition("current")
    assert sync(state, 30.0).is_whole


# Those who wait ---------------------------------------------------------------------------------------------


def test_a_flush_takes_what_is_dirty_at_once(state: RepoState) -> None:
    flush = Flush(["app"], dict)
    state.hint("src", False, 20.0)
    state.request_flush(flush, has_seen_events=True, now=20.0)
    assert state.next_sync(20.0).when == -math.inf
    started = state.begin(state.next_sync(20.0), 20.0)
    assert started.scope == Scope(frozenset({"src"})) and started.flushes == [flush]


def test_a_flush_of_what_is_clean_has_nothing_to_do(state: RepoState) -> None:
    state.request_flush(Flush(["app"], dict), has_seen_events=True, now=20.0)
    assert sync(state, 20.0) == Scope()
    assert state.synced_at == 1010.0


@pytest.mark.parametrize("why", ["events that were not seen", "polled", "not scanned"])
def test_a_flush_scans_the_tree_if_events_do_not_tell_everything(state: RepoState, why: str) -> None:
    if why == "polled":
        state.cover(POLLED, 20.0, 60.0)
    elif why == "not scanned":
        state.require_full_scan(99.0)
    state.request_flush(Flush(["app"], dict), has_seen_events=why != "events that were not seen", now=20.0)
    assert sync(state, 20.0).is_whole


def test_those_who_wait_for_a_scan_are_not_answered_by_a_part(state: RepoState) -> None:
    first = work()
    state.request_sync(first)
    started = state.begin(NextSync("app", "/src/app", 20.0, Scope()), 20.0)
    assert not started.syncs
    state.end()
    started = state.begin(state.next_sync(20.0), 20.0)
    assert started.syncs == [first]


def test_those_who_wait_go_on_waiting_in_order_if_a_sync_makes_way(state: RepoState) -> None:
    first, second = work(), work()
    state.request_sync(first)
    started = state.begin(state.next_sync(20.0), 20.0)
    state.request_sync(second)
    state.end(started)
    assert state.withdraw_requests() == ([], [first, second])
    assert not state.is_wanted


def test_one_that_somebody_waits_for_is_no_first_index_that_waits_for_resources() -> None:
    state = new()
    state.request_sync(work())
    assert not state.next_sync(0.0).is_first_index


def test_a_snapshot_does_not_change_with_the_state(state: RepoState) -> None:
    before = state.snapshot()
    state.hint("src", False, 20.0)
    sync(state, 21.0, errors=(FileError("src/a.py", "I/O error"),))
    assert before.pending == 0 and not before.unindexed and before.synced_at == 1010.0
    assert state.snapshot().unindexed.keys() == {"src/a.py"}
