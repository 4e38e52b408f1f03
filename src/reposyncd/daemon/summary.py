"""The status in one line, for systemd. Pure."""

from __future__ import annotations

from collections import Counter

from reposyncd.app.health import REPO_STATES, Severity, conditions
from reposyncd.app.messages import RepoStateName, Status
from reposyncd.text import printable

_WORST_FIRST: tuple[RepoStateName, ...] = (
    "failed",
    "missing",
    "degraded",
    "paused",
    "pending",
    "syncing",
    "current",
)


def summary(status: Status, now: float) -> str:
    """For example, "2 repositories: 1 syncing, 1 current; mypy: 340 of 2,100 files (16 %)". `now` is in seconds since
    the epoch."""
    repos = status["repos"]
    if not repos:
        return "nothing is indexed yet; add a directory with: reposyncd repo add PATH"
    states = Counter(repo["state"] for repo in repos)
    counts = ", ".join(f"{states[state]} {state}" for state in _WORST_FIRST if states[state])
    noun = "repository" if len(repos) == 1 else "repositories"
    parts = [f"{len(repos)} {noun}: {counts}"]
    for repo in repos:
        progress = repo["progress"]
        if progress and progress["total"]:
            percent = 100 * progress["done"] // progress["total"]
            parts.append(f"{repo['name']}: {progress['done']:,} of {progress['total']:,} files ({percent} %)")
    parts += [
        each.evidence
        for each in conditions(status, now)
        if each.severity is Severity.ERROR and each.kind not in REPO_STATES
    ]
    return printable("; ".join(parts))
