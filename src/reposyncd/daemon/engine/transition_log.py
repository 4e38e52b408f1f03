"""Tells the log what has happened to the repositories: what changed since it was told last, and nothing twice."""

from __future__ import annotations

from collections.abc import Sequence

from reposyncd.daemon.engine.repo_state import RepoState
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
    say,
)
from reposyncd.model import Scope, SyncResult
from reposyncd.store.manifest.catalog import Incident

PATHS_AT_MOST = 20
"""Files of one sync that are named, if they could not be indexed. `status --json` has all."""


class TransitionLog:
    """What was told of every repository. The engine thread's. `since_ns`: older incidents were told by another."""

    def __init__(self, since_ns: int) -> None:
        self._told_until_ns = since_ns
        self._troubles: dict[str, tuple[LogEvent, str]] = {}
        """root to what was said of it"""
        self._seen: set[str] = set()
        """roots that were looked at"""
        self._unindexed: dict[str, dict[str, str]] = {}
        """root to path to why"""

    def state(self, kept: RepoState) -> None:
        """The repo's state may have changed. Under the engine's lock."""
        root, (state, reason) = kept.repo.root, kept.state
        event = {"failed": FAILED, "missing": MISSING, "degraded": WAITING if kept.trouble else UNWATCHED}.get(state)
        before = self._troubles.get(root)
        if event and before != (event, reason):
            self._troubles[root] = event, reason
            say(event, repo=kept.repo.name, path=root, reason=reason)
        elif before and state in ("current", "paused"):
            del self._troubles[root]
            say(RECOVERED, repo=kept.repo.name, path=root, reason=before[1])

    def synced(self, kept: RepoState, scope: Scope, result: SyncResult, run: int | None) -> None:
        """A job has succeeded; `run` is its number in the history, if it has one."""
        root, name = kept.repo.root, kept.repo.name
        is_news = not result.is_empty or (scope.is_whole and root not in self._seen)
        self._seen.add(root)
        if is_news:
            say(
                SYNCED if scope.is_whole else UPDATED,
                repo=name,
                path=root,
                run=run,
                files=result.files.total,
                chunks=result.chunks.total,
                added=result.chunks.added,
                relabelled=result.chunks.relabelled,
                deleted=result.chunks.deleted,
                duration_s=result.duration_s,
            )
        told, errors = self._unindexed.get(root, {}), {path: each.error for path, each in kept.unindexed.items()}
        news = [path for path in errors if told.get(path) != errors[path]]
        for path in news[:PATHS_AT_MOST]:
            say(NOT_INDEXED, repo=name, path=path, run=run, reason=errors[path])
        if len(news) > PATHS_AT_MOST:
            more = f"{len(news) - PATHS_AT_MOST:,} more files"
            say(NOT_INDEXED, repo=name, path=more, run=run, reason="see reposyncd status --json")
        self._unindexed[root] = errors

    def incidents(self, incidents: Sequence[Incident]) -> None:
        """What is on record as found damaged, in order."""
        for each in incidents:
            if each.at_ns > self._told_until_ns:
                self._told_until_ns = each.at_ns
                say(DAMAGED, what=each.what, reason=each.reason, place=each.place)

    def forget(self, root: str) -> None:
        """The repo is kept no longer."""
        self._troubles.pop(root, None)
        self._seen.discard(root)
        self._unindexed.pop(root, None)
