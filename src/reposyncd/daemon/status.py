"""The status of a running service: from the engine, or from the manifest while the engine starts."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any, cast

from reposyncd import __version__
from reposyncd.app import messages
from reposyncd.app.recorded_status import existing_incidents
from reposyncd.app.status import Live, Locks, repo_status, status
from reposyncd.app.stores import store_status
from reposyncd.daemon.engine.snapshots import Coverage, EngineSnapshot, RepoSnapshot, estimate

_KNOWN_AT_START = frozenset({"paused", "missing", "degraded", "failed"})
"""States that remain true while the engine starts."""


def report(engine: EngineSnapshot, started: float) -> messages.Status:
    """The status of a running engine. `started` is on the monotonic clock. From any thread."""
    repos = [_repo(each, engine.watched[each.repo.root]) for each in engine.repos]
    waiting_for = next((each.waiting_for for each in engine.repos if each.waiting_for), "")
    service = _running(
        engine.activity or ("syncing" if any(repo["state"] == "syncing" for repo in repos) else "idle"),
        started,
        watches=engine.watches,
        events_lost=engine.events_lost,
        waits_for=engine.gate_reason,
    )
    store = store_status(engine.state_dir)
    return status(
        version=__version__,
        service=service,
        kind=store.kind,
        location=store.location,
        trouble=waiting_for or store.trouble(),
        locks=Locks(writer=os.getpid(), store=store.lock_holder()),
        incidents=existing_incidents(engine.incidents),
        repos=repos,
    )


def starting(recorded: messages.Status, why: str, started: float) -> messages.Status:
    """The status while the engine starts: `recorded` comes from the manifest, `why` says what the engine is doing. No
    repository is shown as current, nor as syncing unless another process syncs it."""
    known = {*_KNOWN_AT_START, "syncing"} if recorded.get("writer") != os.getpid() else _KNOWN_AT_START
    nobody: messages.LockStatus = {"held": False, "holder": None, "waits": 0, "wait_s_max": 0.0}
    return {
        **recorded,
        "daemon": {**_running(why, started, watches=0, events_lost=0, waits_for=""), "starting": True},
        "store": {**recorded["store"], "lock": recorded["store"].get("lock", nobody)},
        "writer": recorded.get("writer"),
        "repos": [_at_start(repo, repo["state"] in known, why) for repo in recorded["repos"]],
    }


def with_problems(found: messages.Status, problems: Sequence[str], state: str | None = None) -> messages.Status:
    """The same status with these problems of the service, and with another state of the service if one is given."""
    service: messages.ServiceStatus = {**found["daemon"], "problems": list(problems)}
    if state is not None:
        service["state"] = state
    return {**found, "daemon": service}


def _running(
    state: str, started: float, *, watches: int, events_lost: int, waits_for: str | None
) -> messages.ServiceStatus:
    return {
        "running": True,
        "pid": os.getpid(),
        "uptime_s": time.monotonic() - started,
        "state": state,
        "starting": False,
        "watches": watches,
        "events_lost": events_lost,
        "waits_for": waits_for,
    }


def _at_start(repo: messages.RepoStatus, is_known: bool, why: str) -> messages.RepoStatus:
    found: messages.RepoStatus = {**repo, "pending": 0, "lag_s": 0.0, "watch": _watch(Coverage(), 0)}
    if not is_known:
        found |= {"state": "pending", "reason": why, "progress": None}
    return found


def _repo(repo: RepoSnapshot, watched: int) -> messages.RepoStatus:
    now = time.monotonic()
    return repo_status(
        name=repo.name,
        root=repo.repo.root,
        collection=repo.stored.collection,
        state=repo.condition.state,
        reason=repo.condition.reason,
        files=repo.stored.files,
        chunks=repo.stored.chunks,
        progress=_progress(repo, now),
        waiting={"reason": repo.waiting_for, "for_s": now - repo.waiting_since} if repo.waiting_for else None,
        last_sync=None if repo.last_full_sync is None else repo.last_full_sync.to_dict(),
        synced_at=repo.synced_at,
        verdicts=repo.stored.verdicts,
        errors=[each for _, each in sorted(repo.unindexed.items())],
        live=Live(
            pending=repo.pending,
            lag_s=0.0 if repo.pending_since is None else now - repo.pending_since,
            watch=_watch(repo.coverage, watched),
        ),
    )


def _watch(coverage: Coverage, directories: int) -> messages.Watch:
    return {
        "mode": cast("Any", coverage.mode),
        "directories": directories,
        "unwatched": coverage.unwatched,
        "reason": coverage.reason,
    }


def _progress(repo: RepoSnapshot, now: float) -> messages.RepoProgress | None:
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
