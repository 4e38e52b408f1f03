"""Statuses as the service answers them, for tests of what is made of them."""

from __future__ import annotations

from typing import Any, cast

from reposyncd.app import messages

NOW = 1_000_000.0
"""seconds since the epoch"""


def repo(name: str, **fields: Any) -> messages.RepoStatus:
    """A repository that is current, but for these fields."""
    found = {
        "name": name,
        "root": f"/srv/{name}",
        "collection": name,
        "state": "current",
        "reason": "",
        "files": 1200,
        "chunks": 21_500,
        "pending": 0,
        "lag_s": 0.0,
        "progress": None,
        "waiting": None,
        "last_sync": None,
        "synced_at": NOW - 200,
        "watch": {"mode": "inotify", "directories": 1204, "unwatched": 0, "reason": ""},
        "quarantined": [],
        "verdicts": [],
        "errors": [],
        **fields,
    }
    return cast(messages.RepoStatus, found)


def status(
    *repos: messages.RepoStatus,
    store: dict[str, Any] | None = None,
    incidents: list[messages.Incident] | None = None,
    **service: Any,
) -> messages.Status:
    """A service that runs and a store that is healthy, but for these fields."""
    running = {"running": True, "pid": 7, "uptime_s": 90.0, "state": "idle", "problems": [], "waits_for": None}
    healthy = {
        "kind": "embedded",
        "location": "/state/chroma",
        "healthy": True,
        "reason": "",
        "lock": {"held": False, "holder": None, "waits": 0, "wait_s_max": 0.0},
    }
    return {
        "version": "1.2.3",
        "daemon": cast(messages.ServiceStatus, {**running, **service}),
        "store": cast(messages.StoreStatus, {**healthy, **(store or {})}),
        "writer": 7,
        "incidents": incidents or [],
        "repos": list(repos),
    }
