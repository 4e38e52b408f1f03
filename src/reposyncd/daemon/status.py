"""What the service says of itself and of every repository, from what it has in memory."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from reposyncd import __version__
from reposyncd.daemon.engine.snapshots import Coverage, EngineSnapshot, RepoSnapshot, estimate
from reposyncd.store.locks import CHROMA_LOCK, holder
from reposyncd.sync.status import disk_trouble, incidents_of, status, verdicts_of


def report(engine: EngineSnapshot, started: float) -> dict[str, Any]:
    """As `docs/interface` has it, without the service's problems. `started` is on the monotonic clock. For any
    thread."""
    repos = [_repo(each, engine.watched[each.repo.root]) for each in engine.repos]
    waits = [each for each in engine.repos if each.waiting_for]
    trouble = waits[0].waiting_for if waits else disk_trouble(engine.state_dir)
    syncing = any(repo["state"] == "syncing" for repo in repos)
    return {
        "version": __version__,
        "daemon": {
            "running": True,
            "pid": os.getpid(),
            "uptime_s": time.monotonic() - started,
            "state": engine.activity or ("syncing" if syncing else "idle"),
            "starting": False,
            "watches": engine.watches,
            "events_lost": engine.events_lost,
            "waits_for": engine.gate_reason,
        },
        "store": {
            "kind": "embedded",
            "location": os.path.join(engine.state_dir, "chroma"),
            "healthy": not trouble,
            "reason": trouble,
            "lock": _lock(engine.state_dir, waits),
        },
        "incidents": incidents_of(engine.incidents),
        "writer": os.getpid(),
        "repos": repos,
    }


def recorded(state_dir: str, now_ns: int, started: float) -> dict[str, Any]:
    """The same from the manifest alone, while an engine begins. It takes no lock and changes nothing; nobody of this
    process may be making the manifest anew meanwhile. `now_ns` is the wall clock. Raises ReposyncError if there is no
    state directory to be had."""
    found = status(state_dir, now_ns, __version__)
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
    nothing: dict[str, Any] = {"pending": 0, "lag_s": 0.0, "watch": _watch(Coverage(), 0)}
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


def _lock(state_dir: str, waits: Sequence[RepoSnapshot]) -> dict[str, Any]:
    """Who holds Chroma's lock, how many repositories wait for the store, and for how long."""
    holding = holder(os.path.join(state_dir, "chroma", CHROMA_LOCK))
    now = time.monotonic()
    return {
        "held": holding is not None,
        "holder": holding,
        "waits": len(waits),
        "wait_s_max": max((now - each.waiting_since for each in waits), default=0.0),
    }


def _repo(repo: RepoSnapshot, watched: int) -> dict[str, Any]:
    now = time.monotonic()
    return {
        "name": repo.name,
        "root": repo.repo.root,
        "collection": repo.stored.collection,
        "state": repo.condition.state,
        "reason": repo.condition.reason,
        "files": repo.stored.files,
        "chunks": repo.stored.chunks,
        "pending": repo.pending,
        "lag_s": 0.0 if repo.pending_since is None else now - repo.pending_since,
        "progress": _progress(repo, now),
        "waiting": {"reason": repo.waiting_for, "for_s": now - repo.waiting_since} if repo.waiting_for else None,
        "last_sync": None if repo.last_full_sync is None else repo.last_full_sync.to_dict(),
        "synced_at": repo.synced_at,
        "watch": _watch(repo.coverage, watched),
        "quarantined": [each.path for each in repo.stored.verdicts if not each.is_indexed],
        "verdicts": verdicts_of(repo.stored.verdicts),
        "errors": [asdict(each) for _, each in sorted(repo.unindexed.items())],
    }


def _watch(coverage: Coverage, directories: int) -> dict[str, Any]:
    return {
        "mode": coverage.mode,
        "directories": directories,
        "unwatched": coverage.unwatched,
        "reason": coverage.reason,
    }


def _progress(repo: RepoSnapshot, now: float) -> dict[str, Any] | None:
    progress, pace = repo.progress, repo.pace
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
