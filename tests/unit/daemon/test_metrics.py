"""What Prometheus reads."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

from reposyncd.daemon.metrics import exposition
from reposyncd.ports import Stage
from tests.served import Shelf
from tests.statuses import NOW


def parsed(shelf: Shelf) -> Mapping[tuple[str, ...], float]:
    families = text_string_to_metric_families(exposition(shelf.status(), shelf.stage_totals(), NOW).decode())
    return {(each.name, *each.labels.values()): each.value for family in families for each in family.samples}


def test_of_every_repository_its_numbers_and_the_one_state_that_it_is_in() -> None:
    shelf = Shelf()
    shelf.roots = {"a": "/nonexistent/a", 'b"\n': "/nonexistent/b"}
    shelf.states = {"a": "degraded"}
    shelf.dirty = {"a": ["x", "y"]}
    found = parsed(shelf)
    assert found["reposyncd_repo_pending", "a"] == 2
    assert found["reposyncd_repo_lag_seconds", "a"] == 4.2
    assert found["reposyncd_repo_watched_directories", 'b"\n'] == 5012
    assert found["reposyncd_repo_state", "a", "degraded"] == 1
    assert found["reposyncd_repo_state", "a", "current"] == 0
    assert found["reposyncd_repo_state", 'b"\n', "current"] == 1
    assert ("reposyncd_repo_synced_timestamp_seconds", "a") not in found
    assert found["reposyncd_info", "1.2.3"] == 1
    assert found["reposyncd_uptime_seconds",] == 7300
    assert found["reposyncd_events_lost_total",] == 0
    assert found["process_resident_memory_bytes",] > 0
    assert found["reposyncd_conditions", "repo_degraded", "error"] == 1
    assert found["reposyncd_conditions", "store_unusable", "error"] == 0


def test_a_store_that_cannot_be_used_says_so_and_for_how_long() -> None:
    shelf = Shelf()
    assert parsed(shelf)["reposyncd_store_healthy",] == 1
    shelf.store |= {"healthy": False, "lock": {"held": True, "holder": 1, "waits": 1, "wait_s_max": 12.5}}
    found = parsed(shelf)
    assert found["reposyncd_store_healthy",] == 0
    assert found["reposyncd_store_wait_seconds",] == 12.5


def test_the_time_of_each_stage_is_counted_for_repositories_that_are_indexed() -> None:
    shelf = Shelf()
    shelf.roots = {"a": "/nonexistent/a"}
    shelf.stages.stage("a", Stage.EMBED, 1.5, 10)
    shelf.stages.stage("a", Stage.EMBED, 2.5, 20)
    shelf.stages.stage("removed", Stage.READ, 1.0, 1)
    found = parsed(shelf)
    assert found["reposyncd_stage_seconds_total", "a", "embed"] == 4
    assert found["reposyncd_stage_items_total", "a", "embed"] == 30
    assert not any("removed" in name for name in found)
