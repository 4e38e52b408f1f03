"""Repositories of tests, in a registry."""

from __future__ import annotations

from dataclasses import replace

from reposyncd.daemon.engine.registry import RepoRegistry
from reposyncd.daemon.engine.repo_state import RepoState
from reposyncd.daemon.engine.snapshots import Coverage, StartedSync
from reposyncd.model import WHOLE, ChunkCounts, FileCounts, FileError, RootIdentity, SyncResult, Transition
from reposyncd.ports import Stage
from reposyncd.store.manifest.catalog import Repo


def repo_of(name: str, *, paused: bool = False) -> Repo:
    return Repo(1, name, f"/src/{name}", RootIdentity(0, 0), paused)


def result(added: int = 0, files: int = 1, errors: tuple[FileError, ...] = ()) -> SyncResult:
    counts = ChunkCounts(total=added, added=added)
    return SyncResult("app", "/src/app", FileCounts(total=files), counts, 0, 0.1, errors)


def new(name: str = "app") -> RepoState:
    """Nothing of it is indexed."""
    return RepoState(repo_of(name), settle_s=1.0, max_wait_s=1.0, now=0.0)


def current(registry: RepoRegistry, name: str = "app") -> None:
    """Tracks one that is indexed and watched."""
    registry.track(new(name))
    registry.change(name, begin)
    registry.change(name, succeed)
    registry.change(name, lambda state: state.cover(Coverage("inotify"), 0.0, 60.0))
    registry.change(name, RepoState.end)


def begin(state: RepoState) -> StartedSync:
    """A full scan begins."""
    return state.begin(state.next_sync(0.0)._replace(scope=WHOLE), 0.0)


def succeed(state: RepoState, errors: tuple[FileError, ...] = ()) -> None:
    """The full scan that is under way has found nothing but errors."""
    started = StartedSync(WHOLE, False)
    state.synced(started, result(errors=errors), now=0.0, at=0.0, next_full_scan=1e9, retry_at_most_s=300.0)


def paused(repo: Repo) -> Repo:
    return replace(repo, paused=True)


class Recorder:
    """A `ports.Observer` that remembers the transitions."""

    def __init__(self) -> None:
        self.transitions: list[Transition] = []

    def stage(self, repo: str, stage: Stage, duration_s: float, count: int) -> None:
        """Nothing of it is wanted."""

    def transition(self, transition: Transition) -> None:
        self.transitions.append(transition)

    def take(self) -> list[tuple[str | None, str, str]]:
        """(before, state, reason) of each since the last call."""
        found, self.transitions = self.transitions, []
        return [(each.before, each.state, each.reason) for each in found]
