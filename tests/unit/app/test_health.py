"""What is wrong or unusual, and who says so."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from reposyncd.app.health import FAILS_CHECK, FAILS_HEALTH, REPO_STATES, SEVERITY, Condition, Kind, conditions, health
from reposyncd.app.messages import RepoStateName, Status
from tests.statuses import NOW, repo, status

POLL = {"mode": "poll", "directories": 0, "unwatched": 3, "reason": "it is on NFS"}
LOCKED = {"held": True, "holder": 42, "waits": 1, "wait_s_max": 12.0}


def only(found: Status) -> Condition:
    [condition] = conditions(found, NOW)
    return condition


def test_where_all_is_well_there_are_none() -> None:
    assert conditions(status(repo("a"), repo("b")), NOW) == []
    assert health([]) == {"healthy": True, "reasons": []}


def test_every_kind_has_a_severity_and_every_state_but_current_is_a_kind() -> None:
    assert SEVERITY.keys() == set(Kind)
    assert {each.removeprefix("repo_") for each in REPO_STATES} == {*get_args(RepoStateName)} - {"current"}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (
            status(running=False, state="not running"),
            Condition(
                Kind.SERVICE_NOT_RUNNING,
                "service",
                "not running",
                "start it with: reposyncd service install, or: reposyncd daemon",
            ),
        ),
        (
            status(starting=True, state="opening the index"),
            Condition(Kind.SERVICE_STARTING, "service", "opening the index"),
        ),
        (status(problems=["it hangs"]), Condition(Kind.SERVICE_PROBLEM, "service", "it hangs")),
        (
            status(waits_for="on battery"),
            Condition(Kind.FIRST_INDEX_WAITS, "service", "first indexes wait: on battery"),
        ),
        (
            status(store={"healthy": False, "reason": "the disk is full"}),
            Condition(Kind.STORE_UNUSABLE, "store", "the disk is full"),
        ),
        (
            status(store={"healthy": False}),
            Condition(Kind.STORE_UNUSABLE, "store", "the store is not healthy"),
        ),
        (
            status(store={"lock": LOCKED}),
            Condition(
                Kind.STORE_LOCKED, "store", "locked by process 42", "wait until it has finished, or stop it", NOW - 12
            ),
        ),
        (
            status(repo("a", state="failed", reason="it broke")),
            Condition(Kind.REPO_FAILED, "a", "it broke"),
        ),
        (
            status(repo("a", state="degraded", reason="no room", waiting={"reason": "no room", "for_s": 7.0})),
            Condition(Kind.REPO_DEGRADED, "a", "no room", since=NOW - 7),
        ),
        (
            status(repo("a", state="missing", reason="/srv/a does not exist")),
            Condition(Kind.REPO_MISSING, "a", "/srv/a does not exist"),
        ),
        (
            status(repo("a", state="paused")),
            Condition(Kind.REPO_PAUSED, "a", "", "resume with: reposyncd resume a"),
        ),
        (
            status(repo("a", state="paused", reason="resume with: X")),
            Condition(Kind.REPO_PAUSED, "a", "resume with: X"),
        ),
        (status(repo("a", state="pending", lag_s=3.0)), Condition(Kind.REPO_PENDING, "a", "", since=NOW - 3)),
        (status(repo("a", state="syncing")), Condition(Kind.REPO_SYNCING, "a", "")),
        (
            status(repo("a", watch=POLL)),
            Condition(
                Kind.WATCH_INCOMPLETE,
                "a",
                "it is on NFS",
                "a scan every watch.poll seconds finds the changes that cause no event",
            ),
        ),
        (
            status(repo("a", verdicts=[{"path": "x.py", "is_indexed": False, "reason": "it crashes"}])),
            Condition(Kind.FILE_QUARANTINED, "a", "quarantined until it changes: x.py: it crashes"),
        ),
        (
            status(repo("a", verdicts=[{"path": "x.py", "is_indexed": True, "reason": "it crashes"}])),
            Condition(Kind.FILE_PLAIN, "a", "cut as plain lines until it changes: x.py: it crashes"),
        ),
        (
            status(repo("a", errors=[{"path": "x.py", "error": "Permission denied"}])),
            Condition(Kind.FILE_NOT_INDEXED, "a", "not indexed: x.py: Permission denied"),
        ),
        (
            status(incidents=[{"at": NOW - 60, "what": "store", "reason": "garbled", "place": "/q/chroma"}]),
            Condition(
                Kind.DAMAGE_REPAIRED,
                "store",
                "the store was damaged and has been rebuilt: garbled",
                "the damaged one is in /q/chroma; delete it when you like",
                NOW - 60,
            ),
        ),
    ],
    ids=lambda value: value.kind if isinstance(value, Condition) else "",
)
def test_a_condition_is_told_with_its_evidence_and_its_remedy(found: Status, expected: Condition) -> None:
    assert only(found) == expected


def test_a_reason_that_is_also_that_of_the_watch_is_told_once() -> None:
    degraded, watch = conditions(status(repo("a", state="degraded", reason=POLL["reason"], watch=POLL)), NOW)
    assert (degraded.evidence, watch.evidence) == ("it is on NFS", "some changes cause no event")


def test_a_lock_for_which_nobody_waits_is_none() -> None:
    assert conditions(status(store={"lock": {**LOCKED, "waits": 0}}), NOW) == []


def test_what_only_a_running_service_knows_may_be_absent() -> None:
    recorded: Any = repo("a", state="pending")
    for name in ("pending", "lag_s", "watch"):
        del recorded[name]
    found = status(recorded)
    del found["store"]["lock"]
    assert only(found).kind is Kind.REPO_PENDING


def test_the_health_has_a_reason_for_each_of_the_conditions_that_fail_it() -> None:
    repos = [
        repo(each, state=each, reason=f"because of {each}", errors=[{"path": "x", "error": "y"}])
        for each in get_args(RepoStateName)
    ]
    found = status(
        *repos, store={"healthy": False, "reason": "no room"}, starting=True, state="opening", problems=["it hangs"]
    )
    reasons = ["opening", "no room", "degraded is degraded: because of degraded", "failed is failed: because of failed"]
    assert health(conditions(found, NOW)) == {
        "healthy": False,
        "reasons": reasons,
        "error": {"code": "unhealthy", "message": "; ".join(reasons)},
    }


def test_the_check_fails_unless_the_index_is_current_and_the_health_does_not_for_what_is_no_fault() -> None:
    assert {Kind.SERVICE_NOT_RUNNING, Kind.STORE_UNUSABLE, *REPO_STATES} == FAILS_CHECK
    assert Kind.REPO_MISSING not in FAILS_HEALTH and Kind.REPO_MISSING in FAILS_CHECK
