"""Derives what is wrong or unusual from the status, as conditions. Nothing else decides that. Pure.

`GET /v1/health`, `reposyncd status` and its `--check`, the metrics and systemd's status line all use it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from reposyncd.app import messages


class Severity(StrEnum):
    """How bad a condition is."""

    ERROR = "error"
    """something that should work does not"""
    WARNING = "warning"
    """something works worse than it could, or somebody should look at it"""
    INFO = "info"
    """the index may not be current, but nothing needs to be done"""


class Kind(StrEnum):
    """Kinds of conditions. Those that begin with `repo_` are the states of a repository other than `current`."""

    SERVICE_NOT_RUNNING = "service_not_running"
    SERVICE_STARTING = "service_starting"
    SERVICE_PROBLEM = "service_problem"
    FIRST_INDEX_WAITS = "first_index_waits"
    STORE_UNUSABLE = "store_unusable"
    STORE_LOCKED = "store_locked"
    REPO_FAILED = "repo_failed"
    REPO_DEGRADED = "repo_degraded"
    REPO_MISSING = "repo_missing"
    REPO_PAUSED = "repo_paused"
    REPO_PENDING = "repo_pending"
    REPO_SYNCING = "repo_syncing"
    WATCH_INCOMPLETE = "watch_incomplete"
    FILE_QUARANTINED = "file_quarantined"
    FILE_PLAIN = "file_plain"
    FILE_NOT_INDEXED = "file_not_indexed"
    DAMAGE_REPAIRED = "damage_repaired"


SEVERITY = {
    Kind.SERVICE_NOT_RUNNING: Severity.ERROR,
    Kind.SERVICE_STARTING: Severity.INFO,
    Kind.SERVICE_PROBLEM: Severity.WARNING,
    Kind.FIRST_INDEX_WAITS: Severity.INFO,
    Kind.STORE_UNUSABLE: Severity.ERROR,
    Kind.STORE_LOCKED: Severity.WARNING,
    Kind.REPO_FAILED: Severity.ERROR,
    Kind.REPO_DEGRADED: Severity.ERROR,
    Kind.REPO_MISSING: Severity.WARNING,
    Kind.REPO_PAUSED: Severity.INFO,
    Kind.REPO_PENDING: Severity.INFO,
    Kind.REPO_SYNCING: Severity.INFO,
    Kind.WATCH_INCOMPLETE: Severity.WARNING,
    Kind.FILE_QUARANTINED: Severity.WARNING,
    Kind.FILE_PLAIN: Severity.INFO,
    Kind.FILE_NOT_INDEXED: Severity.WARNING,
    Kind.DAMAGE_REPAIRED: Severity.INFO,
}

FAILS_HEALTH = frozenset({Kind.SERVICE_STARTING, Kind.STORE_UNUSABLE, Kind.REPO_FAILED, Kind.REPO_DEGRADED})
"""Kinds for which `GET /v1/health` answers 503. A missing repository is not one of them: if a disk is unplugged, the
service still does what it should."""

REPO_STATES = frozenset(kind for kind in Kind if kind.startswith("repo_"))

FAILS_CHECK = frozenset({Kind.SERVICE_NOT_RUNNING, Kind.STORE_UNUSABLE, *REPO_STATES})
"""Kinds for which `reposyncd status --check` fails: with any of them, the index may not be current."""

_START = "start it with: reposyncd service install, or: reposyncd daemon"


class Condition(NamedTuple):
    """Something that is wrong or unusual."""

    kind: Kind
    subject: str
    """"service", "store", or the name of a repository"""
    evidence: str
    """the reason, as in the status; "" if none is given"""
    remedy: str = ""
    """a command, or another thing to do; "" if the evidence says it, or if there is nothing to do"""
    since: float | None = None
    """seconds since the epoch; None if unknown"""

    @property
    def severity(self) -> Severity:
        """How bad it is."""
        return SEVERITY[self.kind]

    @property
    def repo_state(self) -> str:
        """The state of the repository, for one of REPO_STATES."""
        return self.kind.removeprefix("repo_")


def conditions(status: messages.Status, now: float) -> list[Condition]:
    """Everything that is wrong or unusual with the service, the store and each repository, and repaired damage.

    `now` is in seconds since the epoch.
    """
    return [
        *_of_service(status["daemon"]),
        *_of_store(status["store"], now),
        *(each for repo in status["repos"] for each in _of_repo(repo, now)),
        *map(_of_incident, status["incidents"]),
    ]


def health(found: Iterable[Condition]) -> messages.Health:
    """The answer of `GET /v1/health`."""
    reasons = [
        f"{each.subject} is {each.repo_state}: {each.evidence}" if each.kind in REPO_STATES else each.evidence
        for each in found
        if each.kind in FAILS_HEALTH
    ]
    if not reasons:
        return {"healthy": True, "reasons": []}
    error: messages.ErrorBody = {"code": "unhealthy", "message": "; ".join(reasons)}
    return {"healthy": False, "reasons": reasons, "error": error}


def _of_service(service: messages.ServiceStatus) -> Iterator[Condition]:
    if not service["running"]:
        yield Condition(Kind.SERVICE_NOT_RUNNING, "service", service["state"], _START)
    if service.get("starting"):
        yield Condition(Kind.SERVICE_STARTING, "service", service["state"] or "starting")
    for problem in service.get("problems", []):
        yield Condition(Kind.SERVICE_PROBLEM, "service", problem)
    if waits_for := service.get("waits_for"):
        yield Condition(Kind.FIRST_INDEX_WAITS, "service", f"first indexes wait: {waits_for}")


def _of_store(store: messages.StoreStatus, now: float) -> Iterator[Condition]:
    lock = store.get("lock")
    since = now - lock.get("wait_s_max", 0.0) if lock and lock.get("waits") else None
    if not store["healthy"]:
        yield Condition(Kind.STORE_UNUSABLE, "store", store["reason"] or "the store is not healthy", since=since)
    if lock and lock["held"] and lock.get("waits"):
        remedy = "wait until it has finished, or stop it"
        yield Condition(Kind.STORE_LOCKED, "store", f"locked by process {lock['holder']}", remedy, since)


def _of_repo(repo: messages.RepoStatus, now: float) -> Iterator[Condition]:
    name, reason = repo["name"], repo["reason"]
    if repo["state"] != "current":
        since = now - repo["lag_s"] if repo.get("lag_s") else None
        if waiting := repo["waiting"]:
            reason, since = waiting["reason"], now - waiting["for_s"]
        remedy = f"resume with: reposyncd resume {name}" if repo["state"] == "paused" and not reason else ""
        yield Condition(Kind(f"repo_{repo['state']}"), name, reason, remedy, since)
    watch = repo.get("watch")
    if watch and watch["mode"] == "poll":
        evidence = watch["reason"] if watch["reason"] != repo["reason"] else "some changes cause no event"
        remedy = "a scan every watch.poll seconds finds the changes that cause no event"
        yield Condition(Kind.WATCH_INCOMPLETE, name, evidence, remedy)
    for verdict in repo["verdicts"]:
        where = f"{verdict['path']}: {verdict['reason']}"
        if verdict["is_indexed"]:
            yield Condition(Kind.FILE_PLAIN, name, f"cut as plain lines until it changes: {where}")
        else:
            yield Condition(Kind.FILE_QUARANTINED, name, f"quarantined until it changes: {where}")
    for error in repo["errors"]:
        yield Condition(Kind.FILE_NOT_INDEXED, name, f"not indexed: {error['path']}: {error['error']}")


def _of_incident(incident: messages.Incident) -> Condition:
    evidence = f"the {incident['what']} was damaged and has been rebuilt: {incident['reason']}"
    remedy = f"the damaged one is in {incident['place']}; delete it when you like"
    return Condition(Kind.DAMAGE_REPAIRED, "store", evidence, remedy, incident["at"])
