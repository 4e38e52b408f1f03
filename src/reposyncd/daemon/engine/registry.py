"""The states of all repositories, and the one lock that guards them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import contextmanager
from typing import TypeVar

from reposyncd.app import messages
from reposyncd.app.progress import progress_message
from reposyncd.daemon.engine.repo_state import RepoState
from reposyncd.daemon.engine.schedule import GIT_STRETCH
from reposyncd.daemon.engine.snapshots import NextSync, RepoCondition, RepoSnapshot
from reposyncd.daemon.engine.work import Flush, Work
from reposyncd.errors import NotFoundError, ReposyncError, UsageError
from reposyncd.model import Progress, Transition
from reposyncd.ports import Observer

T = TypeVar("T")

LOCK_TIMEOUT_S = 1.0
"""How long other threads wait for the lock before they continue without it. It is held for microseconds, unless a
thread hangs."""


class RepoRegistry:
    """Owns the state of every repository, and is the only one that changes it. Thread-safe.

    Everybody else gets frozen snapshots. A change is a transition of `RepoState`, made through `change`, `change_all`
    or one of the methods below. Each change of a repository's condition is reported to the observer, once and in order,
    after the lock is released. If another thread is already reporting, that thread reports it.

    Repositories are identified by their names, which are unique.
    """

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._lock = threading.Lock()
        self._woken = threading.Condition(self._lock)
        self._wakes = 0
        """how often the engine was woken"""
        self._repos: dict[str, RepoState] = {}
        self._by_root: dict[str, RepoState] = {}
        self._numbers: dict[str, int] = {}
        self._tracked = 0
        """how many repositories were ever tracked"""
        self._reported: dict[str, RepoCondition] = {}
        self._outbox: deque[Transition] = deque()
        self._is_reporting = False
        self._refusal: ReposyncError | None = None
        self._events_lost = 0
        self._progress = task_progress(())

    # Which repositories there are -------------------------------------------------------------------------

    def track(self, state: RepoState) -> RepoSnapshot:
        """Adds a repository. After that, only the registry changes its state."""
        with self._changing() as changed:
            name = state.repo.name
            self._tracked += 1
            self._repos[name] = self._by_root[state.repo.root] = state
            self._numbers[name] = self._tracked
            changed.append(state)
            self._wake()
            return self._snapshot(state)

    def untrack(self, name: str) -> list[Work]:
        """Removes a repository. Its flushes succeed, since no index is left that could be out of date. Returns the
        syncs that callers wait for."""
        with self._lock:
            state = self._repos.pop(name)
            del self._by_root[state.repo.root], self._numbers[name]
            self._reported.pop(name, None)
            flushes, syncs = state.withdraw_requests()
        for flush in flushes:
            flush.is_current(name)
        return syncs

    def find(self, name: str) -> RepoSnapshot | None:
        """The repository with this name, if there is one."""
        with self._lock:
            state = self._repos.get(name)
            return None if state is None else self._snapshot(state)

    def named(self, repo: str | None) -> list[RepoSnapshot]:
        """The repositories with this name or root; None: all of them. Raises NotFoundError if there is no such one."""
        with self._lock:
            return [self._snapshot(each) for each in self._named(repo)]

    def snapshots(self, timeout_s: float = -1) -> list[RepoSnapshot] | None:
        """Every repository, by name. None if the lock is not available within this time (-1: waits for it)."""
        with self._lock_within(timeout_s) as is_locked:
            return [self._snapshot(state) for _, state in sorted(self._repos.items())] if is_locked else None

    def progress(self, timeout_s: float = LOCK_TIMEOUT_S) -> messages.TaskProgress:
        """What is still to be done. If the lock is not available within this time: what was to be done before."""
        with self._lock_within(timeout_s) as is_locked:
            if is_locked:
                self._progress = task_progress(self._repos.values())
        return self._progress

    @property
    def events_lost(self) -> int:
        """How often events were lost."""
        return self._events_lost

    # Changes ----------------------------------------------------------------------------------------------

    def change(self, name: str, transition: Callable[[RepoState], T]) -> T:
        """Makes a transition, which must not block, and returns its result. Raises KeyError if there is no such
        repository. One that the engine's thread has seen exists until that thread removes it."""
        with self._changing() as changed:
            state = self._repos[name]
            changed.append(state)
            return transition(state)

    def change_all(self, transition: Callable[[RepoState], object]) -> None:
        """Makes a transition of every repository, and wakes the engine."""
        with self._changing() as changed:
            for state in self._repos.values():
                changed.append(state)
                transition(state)
            self._wake()

    def hint(self, root: str, path: str, recursive: bool, now: float) -> None:
        """Something may have changed at this path. Ignored if `root` is not the root of a repository."""
        with self._changing() as changed:
            state = self._by_root.get(root)
            if state is not None and state.hint(path, recursive, now):
                changed.append(state)
                self._wake()

    def rescan_all(self, now: float) -> None:
        """Anything may have changed in every repository."""
        self.change_all(lambda state: state.hint("", True, now))

    def lose_events(self, now: float) -> None:
        """Events were lost, so anything may have changed."""
        with self._lock:
            self._events_lost += 1
        self.rescan_all(now)

    def request_flush(
        self, repo: str | None, *, has_seen_events: bool, now: float, progress: Callable[[], messages.TaskProgress]
    ) -> Flush:
        """Returns work that is done when every earlier change is indexed in this repository (None: in all that are
        neither paused nor missing). See `RepoState.request_flush`. Raises NotFoundError, UsageError, and the error that
        was passed to `close`."""
        with self._changing() as changed:
            if self._refusal:
                raise self._refusal
            states = self._named(repo)
            if repo is None:
                states = [each for each in states if not each.repo.paused and not each.is_missing]
            elif states[0].repo.paused:
                raise UsageError(f'"{repo}" is paused; resume it with: reposyncd resume {repo}')
            flush = Flush([each.repo.name for each in states], progress)
            for each in states:
                each.request_flush(flush, has_seen_events=has_seen_events, now=now)
            changed += states
            self._wake()
            return flush

    def close(self, error: ReposyncError) -> None:
        """Fails all requests with this error, now and later."""
        works: list[Work] = []
        with self._lock:
            self._refusal = error
            for state in self._repos.values():
                flushes, syncs = state.withdraw_requests()
                works += [*flushes, *syncs]
        for work in works:
            work.fail(error)

    def engine_died(self, why: str, now: float) -> None:
        """Shows every repository as failed, since nothing keeps it current. The observer is not notified: the service
        logs the death of the engine once, and not for each repository."""
        with self._lock:
            for state in self._repos.values():
                state.end()
                state.failed(why, now)

    # The engine -------------------------------------------------------------------------------------------

    def next_syncs(self, now: float, at_work: Set[str] = frozenset()) -> list[NextSync]:
        """The next sync of each repository. `at_work`: roots where git is changing the tree."""
        with self._lock:
            return [
                state.next_sync(now, GIT_STRETCH if state.repo.root in at_work else 1.0)
                for state in self._repos.values()
            ]

    def is_part_due(self, now: float, running: str) -> bool:
        """Whether a part of a tree is due that comes before the sync of `running`, which is under way."""
        with self._lock:
            for state in self._repos.values():
                if state.repo.name != running or state.has_only_parts:
                    found = state.next_sync(now)
                    if found.when <= now and not found.scope.is_whole:
                        return True
            return False

    @property
    def wakes(self) -> int:
        """A counter to pass to `wait`."""
        return self._wakes

    def wait(self, wakes: int, timeout_s: float) -> None:
        """Returns when the engine was woken after `wakes` was read, or after the time-out."""
        with self._lock:
            if self._wakes == wakes:
                self._woken.wait(max(0.0, timeout_s))

    def wake(self, timeout_s: float = -1) -> None:
        """Wakes the engine, unless the lock is not available within this time (-1: waits for it)."""
        with self._lock_within(timeout_s) as is_locked:
            if is_locked:
                self._wake()

    # Under the lock ---------------------------------------------------------------------------------------

    def _wake(self) -> None:
        self._wakes += 1
        self._woken.notify_all()

    @contextmanager
    def _lock_within(self, timeout_s: float) -> Iterator[bool]:
        is_locked = self._lock.acquire(timeout=timeout_s)
        try:
            yield is_locked
        finally:
            if is_locked:
                self._lock.release()

    def _snapshot(self, state: RepoState) -> RepoSnapshot:
        return state.snapshot(self._numbers.get(state.repo.name, 0))

    def _named(self, repo: str | None) -> list[RepoState]:
        found = [each for each in self._repos.values() if repo in (None, each.repo.name, each.repo.root)]
        if repo is not None and not found:
            names = ", ".join(sorted(self._repos)) or "none"
            raise NotFoundError(f'there is no repository "{repo}"; known: {names}')
        return found

    # Reporting --------------------------------------------------------------------------------------------

    @contextmanager
    def _changing(self) -> Iterator[list[RepoState]]:
        """Holds the lock. Then reports the changes of those states that were put into the list."""
        changed: list[RepoState] = []
        try:
            with self._lock:
                try:
                    yield changed
                finally:
                    for state in changed:
                        self._note(state)
        finally:
            if changed:
                self._report()

    def _note(self, state: RepoState) -> None:
        name, found = state.repo.name, state.condition
        if self._repos.get(name) is not state or (before := self._reported.get(name)) == found:
            return
        self._reported[name] = found
        self._outbox.append(
            Transition(name, state.repo.root, before and before.state, found.state, found.reason, found.is_waiting)
        )

    def _report(self) -> None:
        """Reports everything in the outbox. If another thread is doing that already, it also reports what was added
        since."""
        while True:
            with self._lock:
                if self._is_reporting or not self._outbox:
                    return
                self._is_reporting = True
                transitions = list(self._outbox)
                self._outbox.clear()
            try:
                for each in transitions:
                    self._observer.transition(each)
            finally:
                with self._lock:
                    self._is_reporting = False


def task_progress(states: Iterable[RepoState]) -> messages.TaskProgress:
    """What is still to be done in these repositories."""
    states = list(states)
    running = next((state.progress for state in states if state.running is not None), None)
    return progress_message(running or Progress("scan"), [pending(state) for state in states if state.is_wanted])


def pending(state: RepoState) -> messages.PendingRepo:
    """The parts of the tree with changes, and why they are not indexed yet."""
    found = state.condition
    return {"repo": state.repo.name, "paths": state.changes.paths(), "why": found.reason or found.state}
