"""What can be said of a state directory from outside: quickly, without a lock, a child process or a write."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from reposyncd.errors import StoreError
from reposyncd.model import Verdict
from reposyncd.ports import StoreStatus
from reposyncd.store.locks import STATE_LOCK, holder
from reposyncd.store.manifest.catalog import Catalog, Incident, Repo
from reposyncd.store.manifest.database import Database
from reposyncd.store.manifest.history import History, Run
from reposyncd.store.state import MANIFEST, make_private
from reposyncd.sync.repos import refusal
from reposyncd.tree.offlimits import OffLimits

_SECOND_NS = 1_000_000_000


def status(state_dir: str, now_ns: int, version: str, store: StoreStatus) -> dict[str, Any]:
    """The state of the store and of every repo, as JSON; `docs/interface` has its form.

    Errors are part of what it says. Times are seconds since the epoch.
    """
    report: dict[str, Any] = {
        "version": version,
        "daemon": {"running": False, "pid": None, "uptime_s": None, "state": "not running"},
        "store": {"kind": store.kind, "location": store.location, "healthy": True, "reason": ""},
        "incidents": [],
        "repos": [],
    }
    manifest = os.path.join(state_dir, MANIFEST)
    if not os.path.exists(manifest):
        return report
    report["writer"] = holder(os.path.join(state_dir, STATE_LOCK))
    make_private(state_dir)
    try:
        with Database(manifest) as db:
            _fill(report, db, state_dir, store, now_ns)
    except StoreError as error:
        report["store"] |= {"healthy": False, "reason": str(error)}
    if trouble := store.trouble():
        report["store"] |= {"healthy": False, "reason": trouble}
    return report


def _fill(report: dict[str, Any], db: Database, state_dir: str, store: StoreStatus, now_ns: int) -> None:
    lock = store.lock_holder()
    report["store"]["lock"] = {"held": lock is not None, "holder": lock}
    catalog = Catalog(db)
    incidents = catalog.incidents()
    report["incidents"] = incidents_of(incidents)
    for repo in catalog.repos():
        report["repos"].append(_repo(db, state_dir, repo, incidents, report["writer"] is not None, now_ns))
    waits = [each["waiting"]["for_s"] for each in report["repos"] if each["waiting"]]
    report["store"]["lock"] |= {"waits": len(waits), "wait_s_max": max(waits, default=0.0)}


def incidents_of(incidents: Iterable[Incident]) -> list[dict[str, Any]]:
    """As JSON, without those of which nothing is left to be deleted."""
    return [
        {"at": each.at_ns / _SECOND_NS, "what": each.what, "reason": each.reason, "place": each.place}
        for each in incidents
        if os.path.lexists(each.place)
    ]


def _repo(
    db: Database, state_dir: str, repo: Repo, incidents: list[Incident], writer: bool, now_ns: int
) -> dict[str, Any]:
    catalog, history = Catalog(db), History(db)
    runs = history.runs(repo)
    last = runs[0] if runs else None
    done = next((run for run in runs if run.outcome == "done"), None)
    serving = [each for each in catalog.generations(repo) if each.state == "serving"]
    running = last if last is not None and last.outcome == "running" and writer else None
    rebuilt = [each for each in incidents if done is None or each.at_ns > (done.finished_ns or done.started_ns)]
    refused = refusal(repo, OffLimits.of(state_dir)) or ""
    what, reason = ("failed", refused) if refused else _state(repo, last, done, running, rebuilt)
    verdicts = _verdicts(db, repo)
    return {
        "name": repo.name,
        "root": repo.root,
        "collection": serving[0].collection if serving else None,
        "state": what,
        "reason": reason,
        "files": serving[0].files if serving else 0,
        "chunks": serving[0].chunks if serving else 0,
        "progress": None
        if running is None
        else {"done": running.files_done, "total": running.files_total, "chunks": running.chunks_done},
        "waiting": None
        if running is None or running.trouble is None
        else {"reason": running.trouble, "for_s": (now_ns - (running.trouble_ns or now_ns)) / _SECOND_NS},
        "last_sync": None if done is None else done.result,
        "synced_at": None if done is None or done.finished_ns is None else done.finished_ns / _SECOND_NS,
        "quarantined": [each.path for each in verdicts if not each.is_indexed],
        "verdicts": verdicts_of(verdicts),
        "errors": (done.result or {}).get("errors", []) if done else [],
    }


def _state(
    repo: Repo, last: Run | None, done: Run | None, running: Run | None, rebuilt: list[Incident]
) -> tuple[str, str]:
    """(state, reason); of what is true, the most urgent."""
    if repo.paused and running is None:
        return "paused", f"it is kept as it was; go on with: reposyncd resume {repo.name}"
    if running is not None and running.trouble:
        return "degraded", running.trouble
    if rebuilt:
        incident = rebuilt[-1]
        verb = "is being rebuilt" if running else "is rebuilt by the next sync"
        return "degraded", f"the {incident.what} was damaged, and {verb}: {incident.reason}"
    if running is not None:
        return "syncing", ""
    if not os.path.isdir(repo.root):
        return "missing", f"{repo.root} is not there; its index is kept"
    if last is None or last.outcome in ("running", "interrupted"):
        return "pending", "the last sync was interrupted; the next one goes on from there" if last else ""
    if last.outcome == "failed":
        return "failed", last.error or ""
    return "current", "as of the last sync"


def _verdicts(db: Database, repo: Repo) -> list[Verdict]:
    from reposyncd.store.manifest.manifest import Manifest

    return [
        verdict
        for generation in Catalog(db).generations(repo)
        if generation.state == "serving"
        for verdict in Manifest(db, generation).verdicts()
    ]


def verdicts_of(verdicts: Iterable[Verdict]) -> list[dict[str, Any]]:
    """As JSON."""
    return [each._asdict() for each in verdicts]
