"""Logs what happens to the repositories: only what has changed since the last entry about it, and nothing twice."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Protocol

from reposyncd.daemon.events import (
    DAMAGED,
    FAILED,
    MISSING,
    NOT_INDEXED,
    RECOVERED,
    SYNCED,
    UNWATCHED,
    UPDATED,
    WAITING,
    LogEvent,
    log_event,
)
from reposyncd.model import FileError, Scope, SyncResult, Transition
from reposyncd.ports import Stage
from reposyncd.store.manifest.catalog import Incident, Repo

PATHS_AT_MOST = 20
"""How many files that could not be indexed are logged for one sync. `status --json` has all of them."""


class SyncReports(Protocol):
    """What the engine reports besides transitions. Called by the engine's thread, outside every lock."""

    def synced(
        self, repo: Repo, scope: Scope, result: SyncResult, unindexed: Mapping[str, FileError], run: int | None
    ) -> None:
        """A sync has succeeded. `unindexed`: every file of the repository that could not be read, by path; `run`: the
        sync's number in the history, if it has one."""
        ...

    def incidents(self, incidents: Iterable[Incident]) -> None:
        """The damage on record, oldest first."""
        ...

    def untracked(self, repo: Repo) -> None:
        """The repository was removed, or has moved to another path."""
        ...


class TransitionLog:
    """A `ports.Observer` and `SyncReports` that writes the log. Thread-safe. It outlives the engine, so that the next
    engine repeats nothing.

    `since_ns`: older incidents were logged by an earlier service.
    """

    def __init__(self, since_ns: int) -> None:
        self._lock = threading.Lock()
        self._logged_until_ns = since_ns
        self._troubles: dict[str, tuple[LogEvent, str]] = {}
        """by root: what was logged, and is not over yet"""
        self._synced: set[str] = set()
        """roots that were scanned"""
        self._unindexed: dict[str, dict[str, str]] = {}
        """by root: path to the reason why it could not be indexed"""

    def stage(self, repo: str, stage: Stage, duration_s: float, count: int) -> None:
        """Ignored: timings are not logged."""

    def transition(self, transition: Transition) -> None:
        """See `ports.Observer`."""
        root, state, reason = transition.root, transition.state, transition.reason
        degraded = WAITING if transition.is_waiting else UNWATCHED
        event = {"failed": FAILED, "missing": MISSING, "degraded": degraded}.get(state)
        # Pausing a repository does not recover it. But a sync of a paused one may have.
        is_over = state == "current" or (state == "paused" and transition.before == "syncing")
        with self._lock:
            before = self._troubles.get(root)
            if event and before != (event, reason):
                self._troubles[root] = event, reason
                log_event(event, repo=transition.repo, path=root, reason=reason)
            elif before and is_over:
                del self._troubles[root]
                log_event(RECOVERED, repo=transition.repo, path=root, reason=before[1])

    def synced(
        self, repo: Repo, scope: Scope, result: SyncResult, unindexed: Mapping[str, FileError], run: int | None
    ) -> None:
        """See `SyncReports`."""
        with self._lock:
            has_changed = not result.is_empty or (scope.is_whole and repo.root not in self._synced)
            self._synced.add(repo.root)
            if has_changed:
                _log_synced(repo, scope, result, run)
            logged = self._unindexed.get(repo.root, {})
            errors = {path: each.error for path, each in unindexed.items()}
            self._unindexed[repo.root] = errors
        new_errors = [path for path in errors if logged.get(path) != errors[path]]
        for path in new_errors[:PATHS_AT_MOST]:
            log_event(NOT_INDEXED, repo=repo.name, path=path, run=run, reason=errors[path])
        if len(new_errors) > PATHS_AT_MOST:
            more = f"{len(new_errors) - PATHS_AT_MOST:,} more files"
            log_event(NOT_INDEXED, repo=repo.name, path=more, run=run, reason="see reposyncd status --json")

    def incidents(self, incidents: Iterable[Incident]) -> None:
        """See `SyncReports`."""
        for each in incidents:
            if each.at_ns > self._logged_until_ns:
                self._logged_until_ns = each.at_ns
                log_event(DAMAGED, what=each.what, reason=each.reason, place=each.place)

    def untracked(self, repo: Repo) -> None:
        """See `SyncReports`."""
        with self._lock:
            self._troubles.pop(repo.root, None)
            self._synced.discard(repo.root)
            self._unindexed.pop(repo.root, None)


def _log_synced(repo: Repo, scope: Scope, result: SyncResult, run: int | None) -> None:
    log_event(
        SYNCED if scope.is_whole else UPDATED,
        repo=repo.name,
        path=repo.root,
        run=run,
        files=result.files.total,
        chunks=result.chunks.total,
        added=result.chunks.added,
        relabelled=result.chunks.relabelled,
        deleted=result.chunks.deleted,
        duration_s=result.duration_s,
    )
