"""Verification while the service runs: compares one repository at a time, in slices between other jobs."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from reposyncd.app import messages
from reposyncd.app.operations import verification
from reposyncd.app.progress import progress_message
from reposyncd.app.workspace import Workspace
from reposyncd.config import Config
from reposyncd.daemon.engine.activity import Activity
from reposyncd.daemon.engine.inbox import Inbox
from reposyncd.daemon.engine.periodic.timer import Timer
from reposyncd.daemon.engine.registry import RepoRegistry
from reposyncd.daemon.engine.snapshots import RepoSnapshot
from reposyncd.daemon.engine.tracking import RepoTracking
from reposyncd.daemon.engine.watching import Watching
from reposyncd.daemon.engine.work import Work
from reposyncd.daemon.events import internal_error, log_unexpected
from reposyncd.daemon.resources import return_memory
from reposyncd.errors import CorruptStoreError, InterruptedSyncError, ReposyncError
from reposyncd.model import Progress
from reposyncd.sync.repos import named

if TYPE_CHECKING:
    from reposyncd.sync.verify import Steps, Verification

MAX_DELAY_S = 1.0
"""How long a comparison makes way for parts of trees before its next slice. It is short: somebody waits for it."""

SLICE_S = 0.2
"""How long a slice takes. Some steps cannot be divided and take longer: reading the whole manifest (a second for each
gigabyte), reading the ids of the collection, and listing the tree."""


class VerifyRepos(Timer):
    """A `schedule.PeriodicTask`. Any thread may call `progress`; everything else is for the engine's thread.

    `is_stopping` and `heartbeat` are called often during a slice; `invalidate_store` is called if the store turns out
    to be damaged.
    """

    max_delay_s = MAX_DELAY_S

    def __init__(
        self,
        *,
        workspace: Workspace,
        registry: RepoRegistry,
        tracking: RepoTracking,
        watching: Watching,
        inbox: Inbox,
        activity: Activity,
        is_stopping: Callable[[], bool],
        heartbeat: Callable[[], None],
        invalidate_store: Callable[[], object],
    ) -> None:
        super().__init__()
        self._workspace = workspace
        self._registry = registry
        self._tracking = tracking
        self._watching = watching
        self._inbox = inbox
        self._activity = activity
        self._is_stopping = is_stopping
        self._heartbeat = heartbeat
        self._invalidate_store = invalidate_store
        self._requests: deque[_Request] = deque()
        """those of which not every comparison has begun"""
        self._progress: Progress | None = None
        """progress of the comparison that is under way"""
        self._comparison: _Comparison | None = None

    def request(self, repo: str | None, repair: bool, work: Work) -> None:
        """Requests the comparison of a repository (None: of all). `work` ends with `{repos: [Verification as JSON]}`;
        with `repair`, after the repairs. Raises NotFoundError."""
        names = deque(each.name for each in named(self._workspace.catalog, repo))
        self._requests.append(_Request(work, names, repair, self._inbox.promise(work)))
        self.due_in(0)

    def progress(self) -> messages.TaskProgress:
        """The progress of the comparison under way, or else of what the engine does before it."""
        found, progress = self._registry.progress(), self._progress
        return found if progress is None else progress_message(progress, found["pending"])

    def run(self) -> None:
        """Runs a slice of one comparison."""
        try:
            self._slice()
        finally:
            self.due_in(0 if self._requests or self._comparison else math.inf)

    def reconfigure(self, config: Config) -> None:
        """Starts the comparison under way again, since its index is closed."""
        if self._comparison:
            self._comparison.close()
            self._comparison = self._compare(self._comparison.repo, self._comparison.request)

    def _slice(self) -> None:
        comparison = self._comparison or self._next()
        if comparison is None:
            return
        request = comparison.request
        try:
            if self._continue(comparison):
                self._end(comparison)
                request.end_if_done()
        except ReposyncError as error:
            self._end(comparison)
            self._give_up(request, error)
        except Exception as error:
            what = f'the comparison of "{comparison.repo.name}"'
            log_unexpected(what, error)
            self._end(comparison)
            self._give_up(request, internal_error(what))

    def _next(self) -> _Comparison | None:
        """Begins to compare the next repository."""
        request = self._requests[0]
        name = request.next_name()
        if not request.has_more:
            self._requests.popleft()
        repo = self._registry.find(name)
        if repo is None:  # it was removed in the meantime
            request.leave_out()
            return None
        self._comparison = self._compare(repo, request)
        self._activity.job_begins(f"verifying {name}")
        return self._comparison

    def _compare(self, repo: RepoSnapshot, request: _Request) -> _Comparison:
        steps = verification(
            self._workspace,
            repo.repo,
            repair=request.repair,
            on_progress=self._on_progress,
            should_stop=self._should_stop,
        )
        return _Comparison(repo, request, steps)

    def _continue(self, comparison: _Comparison) -> bool:
        """Runs a slice. Returns whether the comparison is finished."""
        request = comparison.request
        now = self._registry.find(comparison.repo.name)
        if now is None or now.number != comparison.repo.number:  # it was removed
            request.leave_out()
            return True
        if self._watching.ensure():
            self._registry.rescan_all(time.monotonic())
        until = time.monotonic() + SLICE_S
        while (found := comparison.step()) is None:
            if time.monotonic() >= until:
                return False
        if request.repair and found.counts:
            repair = Work(self._registry.progress)
            repair.on_end(lambda: request.repaired(found, repair))
            self._tracking.request_sync(now.repo, repair, full=True)
        else:
            request.found(found)
        return True

    def _end(self, comparison: _Comparison) -> None:
        comparison.close()
        repo = self._registry.find(comparison.repo.name)
        if repo is None or repo.repo.paused:
            self._watching.drop(comparison.repo.repo.root)
        self._comparison = self._progress = None
        return_memory()
        self._activity.job_ends(time.monotonic())

    def _give_up(self, request: _Request, error: ReposyncError) -> None:
        if request in self._requests:
            self._requests.remove(request)
        if isinstance(error, CorruptStoreError):
            self._invalidate_store()
            error = CorruptStoreError(f"the index is damaged and is being repaired: {error}")
        if isinstance(error, InterruptedSyncError):
            error = ReposyncError("the service is stopping")
        request.fail(error)

    def _on_progress(self, progress: Progress) -> None:
        self._heartbeat()
        self._progress = progress

    def _should_stop(self) -> bool:
        self._heartbeat()
        return self._is_stopping()


class _Comparison:
    """The comparison of one repository, in steps."""

    def __init__(self, repo: RepoSnapshot, request: _Request, steps: Steps) -> None:
        self.repo = repo
        self.request = request
        self._steps = steps

    def step(self) -> Verification | None:
        """Takes one step. Returns the result after the last one."""
        try:
            next(self._steps)
        except StopIteration as end:
            found: Verification = end.value
            return found
        return None

    def close(self) -> None:
        """Ends the comparison early."""
        self._steps.close()


class _Request:
    """What one caller asked for. `forget` is called when the work has ended."""

    def __init__(self, work: Work, names: deque[str], repair: bool, forget: Callable[[], None]) -> None:
        self._work = work
        self._names = names
        """repositories that are still to be compared"""
        self.repair = repair
        self._forget = forget
        self._begun = 0
        """how many comparisons have begun and not ended"""
        self._found: list[Verification] = []

    @property
    def has_more(self) -> bool:
        """Whether there are repositories whose comparison has not begun."""
        return bool(self._names)

    def next_name(self) -> str:
        """Removes and returns the next repository, whose comparison begins. Raises IndexError if there is none."""
        self._begun += 1
        return self._names.popleft()

    def found(self, verification: Verification) -> None:
        """One comparison has ended."""
        self._found.append(verification)
        self._begun -= 1

    def leave_out(self) -> None:
        """One repository does not exist any more."""
        self._begun -= 1
        self.end_if_done()

    def repaired(self, verification: Verification, repair: Work) -> None:
        """One repository was repaired, or its repair failed."""
        try:
            repair.result()
        except ReposyncError as error:
            self.fail(error)
            return
        verification.repaired = True
        self.found(verification)
        self.end_if_done()

    def fail(self, error: ReposyncError) -> None:
        """Fails the whole request."""
        self._work.fail(error)
        self._forget()

    def end_if_done(self) -> None:
        """Ends the work if nothing is left to do."""
        if not self._names and not self._begun:
            found: list[dict[str, Any]] = [each.to_dict() for each in self._found]
            self._work.done({"repos": found})
            self._forget()
