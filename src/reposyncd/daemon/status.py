"""What the service says of itself and of every repository, from what it has in memory."""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from typing import Any

from reposyncd import __version__
from reposyncd.app.stores import store_status
from reposyncd.daemon.engine.loop import Engine
from reposyncd.daemon.engine.repo_state import Coverage, RepoState, estimate
from reposyncd.ports import StoreStatus
from reposyncd.sync.status import incidents_of, status, verdicts_of


def report(engine: Engine, started: float) -> dict[str, Any]:
    """As `docs/interface` has it, without the daemon's problems. `started` is on the monotonic clock. For any
    thread."""
    store = store_status(engine.config.state_dir)
    with engine.changed:
        repos = [_repo(engine, kept) for _, kept in sorted(engine.kept.items())]
        waits = [kept for kept in engine.kept.values() if kept.trouble]
        trouble = waits[0].trouble if waits else store.trouble()
        incidents = engine.incidents
        activity = engine.activity
        bulk_waits = engine.bulk.reason
        lost = engine.events_lost
    syncing = any(repo["state"] == "syncing" for repo in repos)
    return {
        "version": __version__,
        "daemon": {
            "running": True,
            "pid": os.getpid(),
            "uptime_s": time.monotonic() - started,
            "state": activity or ("syncing" if syncing else "idle"),
            "starting": False,
            "watches": engine.watching.total(),
            "events_lost": lost,
            "waits_for": bulk_waits,
        },
        "store": {
            "kind": store.kind,
            "location": store.location,
            "healthy": not trouble,
            "reason": trouble,
            "lock": _lock(store, waits),
        },
        "incidents": incidents_of(incidents),
        "writer": os.getpid(),
        "repos": repos,
    }


def recorded(state_dir: str, now_ns: int, started: float) -> dict[str, Any]:
    """The same from the manifest alone, while an engine begins. It takes no lock and changes nothing; nobody of this
    process may be making the manifest anew meanwhile. `now_ns` is the wall clock. Raises ReposyncError if there is no
    state directory to be had."""
    found = status(state_dir, now_ns, __version__, store_status(state_dir))
    found["daemon"] = {
        "running": True,
        "pid": os.getpid(),
        "uptime_s": time.monotonic() - started,
        "state": "",
        "starting": True,
        "watches": 0,
        "events_lost": 0,
        "waits_for": "",
    }
    nobody = {"held": False, "holder": None, "waits": 0, "wait_s_max": 0.0}
    found["store"]["lock"] = {**nobody, **found["store"].get("lock", {})}
    found.setdefault("writer", None)
    nothing: dict[str, Any] = {"pending": 0, "lag_s": 0.0, "watch": Coverage()._asdict()}
    found["repos"] = [{**each, **nothing} for each in found["repos"]]
    return found


def beginning(found: dict[str, Any], why: str) -> dict[str, Any]:
    """What was `recorded`, of an engine that is beginning: nothing is called current by it, and nothing at work but
    what another process does."""
    known = {"paused", "missing", "degraded", "failed"}
    if found["writer"] != os.getpid():
        known.add("syncing")
    return {
        **found,
        "daemon": {**found["daemon"], "state": why},
        "repos": [
            each if each["state"] in known else {**each, "state": "pending", "reason": why, "progress": None}
            for each in found["repos"]
        ],
    }


def _lock(store: StoreStatus, waits: list[RepoState]) -> dict[str, Any]:
    """Who holds the store's lock, how many repositories wait for the store, and for how long."""
    holding = store.lock_holder()
    now = time.monotonic()
    return {
        "held": holding is not None,
        "holder": holding,
        "waits": len(waits),
        "wait_s_max": max((now - kept.trouble_since for kept in waits), default=0.0),
    }


def _repo(engine: Engine, kept: RepoState) -> dict[str, Any]:
    now = time.monotonic()
    state, reason = kept.state
    since = kept.debounce.since
    return {
        "name": kept.repo.name,
        "root": kept.repo.root,
        "collection": kept.stored.collection,
        "state": state,
        "reason": reason,
        "files": kept.stored.files,
        "chunks": kept.stored.chunks,
        "pending": len(kept.debounce),
        "lag_s": 0.0 if since is None else now - since,
        "progress": _progress(kept, now),
        "waiting": {"reason": kept.trouble, "for_s": now - kept.trouble_since} if kept.trouble else None,
        "last_sync": None if kept.last is None else kept.last.to_dict(),
        "synced_at": kept.synced_at,
        "watch": kept.coverage._replace(directories=engine.watching.count(kept.repo.root))._asdict(),
        "quarantined": [each.path for each in kept.stored.verdicts if not each.is_indexed],
        "verdicts": verdicts_of(kept.stored.verdicts),
        "errors": [asdict(each) for _, each in sorted(kept.unindexed.items())],
    }


def _progress(kept: RepoState, now: float) -> dict[str, Any] | None:
    progress, pace = kept.progress, kept.pace
    if progress is None:
        return None
    rate, left_s = (None, None) if pace is None else estimate(pace, progress, now)
    return {
        "phase": progress.phase,
        "done": progress.files_done,
        "total": progress.files_total,
        "chunks": progress.chunks_done,
        "rate_chunks_s": rate,
        "left_s": left_s,
    }
