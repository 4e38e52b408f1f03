"""Builds the status: the one place that knows its form. Pure.

It has two sources: `app.recorded_status` reads the manifest, `daemon.status` asks the engine.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

if TYPE_CHECKING:
    from reposyncd.app import messages
    from reposyncd.model import FileError, Verdict
    from reposyncd.store.manifest.catalog import Incident

SECOND_NS = 1_000_000_000


class Locks(NamedTuple):
    """The processes that hold the locks; None: nobody."""

    writer: int | None
    """holds the lock on the state"""
    store: int | None
    """holds the store's lock"""


class Live(NamedTuple):
    """What only a running service knows of a repository."""

    pending: int
    """places with changes that are not in the index yet"""
    lag_s: float
    """age of the oldest of these changes, seconds"""
    watch: messages.Watch


def not_running(why: str = "not running") -> messages.ServiceStatus:
    """The status of a service that does not run, or that does not answer."""
    return {"running": False, "pid": None, "uptime_s": None, "state": why}


def status(
    *,
    version: str,
    service: messages.ServiceStatus,
    kind: str,
    location: str,
    trouble: str,
    locks: Locks | None,
    incidents: Iterable[Incident],
    repos: Sequence[messages.RepoStatus],
) -> messages.Status:
    """The whole status. `kind`, `location` and `trouble` are of the store: `trouble` is why it cannot be used, "" if it
    can. `locks` is None where there is no manifest."""
    found: messages.Status = {
        "version": version,
        "daemon": service,
        "store": {"kind": kind, "location": location, "healthy": not trouble, "reason": trouble},
        "incidents": [
            {"at": each.at_ns / SECOND_NS, "what": each.what, "reason": each.reason, "place": each.place}
            for each in incidents
        ],
        "repos": list(repos),
    }
    if locks:
        waits_s = [each["waiting"]["for_s"] for each in repos if each["waiting"]]
        found["writer"] = locks.writer
        found["store"]["lock"] = {
            "held": locks.store is not None,
            "holder": locks.store,
            "waits": len(waits_s),
            "wait_s_max": max(waits_s, default=0.0),
        }
    return found


def repo_status(
    *,
    name: str,
    root: str,
    collection: str | None,
    state: str,
    reason: str,
    files: int,
    chunks: int,
    progress: messages.RepoProgress | None,
    waiting: messages.Waiting | None,
    last_sync: Mapping[str, Any] | None,
    synced_at: float | None,
    verdicts: Sequence[Verdict],
    errors: Iterable[FileError | messages.FileError],
    live: Live | None = None,
) -> messages.RepoStatus:
    """The status of one repository. `last_sync` is a SyncResult as JSON, `synced_at` is in seconds since the epoch."""
    found: messages.RepoStatus = {
        "name": name,
        "root": root,
        "collection": collection,
        "state": cast("messages.RepoStateName", state),
        "reason": reason,
        "files": files,
        "chunks": chunks,
        "progress": progress,
        "waiting": waiting,
        "last_sync": cast("messages.SyncResult | None", last_sync),
        "synced_at": synced_at,
        "quarantined": [each.path for each in verdicts if not each.is_indexed],
        "verdicts": [{"path": each.path, "is_indexed": each.is_indexed, "reason": each.reason} for each in verdicts],
        "errors": [each if isinstance(each, dict) else {"path": each.path, "error": each.error} for each in errors],
    }
    if live:
        found |= {"pending": live.pending, "lag_s": live.lag_s, "watch": live.watch}
    return found
