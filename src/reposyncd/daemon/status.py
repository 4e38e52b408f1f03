"""The status of a running service: from the engine, or from the manifest while the engine starts."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any, cast

from reposyncd import __version__
from reposyncd.app import messages
from reposyncd.app.recorded_status import disk_trouble, kept_incidents
from reposyncd.app.status import Live, Locks, repo_status, status
from reposyncd.daemon.engine.loop import Engine
from reposyncd.daemon.engine.repo_state import Coverage, RepoState, estimate
from reposyncd.store.locks import CHROMA_LOCK, holder

_KNOWN_AT_START = frozenset({"paused", "missing", "degraded", "failed"})
"""States that are as true as before while the engine starts."""


def report(engine: Engine, started: float) -> messages.Status:
    """The status of a running engine. `started` is on the monotonic clock. From any thread."""
    with engine.changed:
        repos = [_repo(engine, kept) for _, kept in sorted(engine.kept.items())]
        waiting_for = next((kept.trouble for kept in engine.kept.values() if kept.trouble), "")
        incidents = engine.incidents
        service = _running(
            engine.activity or ("syncing" if any(repo["state"] == "syncing" for repo in repos) else "idle"),
            started,
            watches=engine.watching.total(),
            events_lost=engine.events_lost,
            waits_for=engine.bulk.reason,
        )
    location = os.path.join(engine.config.state_dir, "chroma")
    return status(
        version=__version__,
        service=service,
        kind="embedded",
        location=location,
        trouble=waiting_for or disk_trouble(engine.config.state_dir),
        locks=Locks(writer=os.getpid(), store=holder(os.path.join(location, CHROMA_LOCK))),
        incidents=kept_incidents(incidents),
        repos=repos,
    )


def starting(recorded: messages.Status, why: str, started: float) -> messages.Status:
    """The status while the engine starts: `recorded` is that of the manifest, `why` says what the engine does. No
    repository is called current, nor syncing unless another process syncs it."""
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
    """That status, with these problems of the service, and with another state of it if one is given."""
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
    found: messages.RepoStatus = {**repo, "pending": 0, "lag_s": 0.0, "watch": _watch(Coverage())}
    if not is_known:
        found |= {"state": "pending", "reason": why, "progress": None}
    return found


def _repo(engine: Engine, kept: RepoState) -> messages.RepoStatus:
    """The status of one repository. Under the engine's lock."""
    now = time.monotonic()
    state, reason = kept.state
    since = kept.debounce.since
    return repo_status(
        name=kept.repo.name,
        root=kept.repo.root,
        collection=kept.stored.collection,
        state=state,
        reason=reason,
        files=kept.stored.files,
        chunks=kept.stored.chunks,
        progress=_progress(kept, now),
        waiting={"reason": kept.trouble, "for_s": now - kept.trouble_since} if kept.trouble else None,
        last_sync=None if kept.last is None else kept.last.to_dict(),
        synced_at=kept.synced_at,
        verdicts=kept.stored.verdicts,
        errors=[each for _, each in sorted(kept.unindexed.items())],
        live=Live(
            pending=len(kept.debounce),
            lag_s=0.0 if since is None else now - since,
            watch=_watch(kept.coverage._replace(directories=engine.watching.count(kept.repo.root))),
        ),
    )


def _watch(coverage: Coverage) -> messages.Watch:
    return {
        "mode": cast("Any", coverage.mode),
        "directories": coverage.directories,
        "unwatched": coverage.unwatched,
        "reason": coverage.reason,
    }


def _progress(kept: RepoState, now: float) -> messages.RepoProgress | None:
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
