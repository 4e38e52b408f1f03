"""The status report in one line, for systemd and process lists. Pure."""

from __future__ import annotations

from collections import Counter
from typing import Any

from reposyncd.text import printable

_WORST_FIRST = ("failed", "missing", "degraded", "paused", "pending", "syncing", "current")


def summary(report: dict[str, Any]) -> str:
    """Such as "2 repositories: 1 syncing, 1 current; mypy: 340 of 2,100 files (16 %)"."""
    repos = report["repos"]
    if not repos:
        return "nothing is kept yet; add a directory with: reposyncd repo add PATH"
    states = Counter(repo["state"] for repo in repos)
    counts = ", ".join(f"{states[state]} {state}" for state in _WORST_FIRST if states[state])
    noun = "repository" if len(repos) == 1 else "repositories"
    parts = [f"{len(repos)} {noun}: {counts}"]
    for repo in repos:
        progress = repo["progress"]
        if progress and progress["total"]:
            percent = 100 * progress["done"] // progress["total"]
            parts.append(f"{repo['name']}: {progress['done']:,} of {progress['total']:,} files ({percent} %)")
    if not report["store"]["healthy"]:
        parts.append(report["store"]["reason"])
    return printable("; ".join(parts))
