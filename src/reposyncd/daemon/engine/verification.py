"""Verification while the service runs: one repository at a time, between other jobs, on the engine's thread."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from reposyncd.app.operations import verification
from reposyncd.daemon.engine.loop import Engine
from reposyncd.daemon.engine.work import Work
from reposyncd.daemon.events import internal_error
from reposyncd.daemon.resources import return_memory
from reposyncd.errors import CorruptStoreError, InterruptedSyncError, ReposyncError
from reposyncd.model import Progress
from reposyncd.sync.repos import named

if TYPE_CHECKING:
    from reposyncd.daemon.engine.repo_state import RepoState
    from reposyncd.sync.verify import Steps, Verification


PATIENCE_S = 1.0
"""How long a comparison that somebody waits for makes way for parts of trees before it goes on for a slice."""

SLICE_S = 0.2
"""How long it goes on then. What cannot be divided takes longer: reading the whole manifest (a second for each
gigabyte), the ids of the collection, and listing the tree."""


class Verifying:
    """Compares repositories when somebody asks for it. A `schedule.PeriodicTask`.

    It goes in slices: while anything else is to be done, it goes on for SLICE_S at a time.
    """

    patience_s = PATIENCE_S

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.due = math.inf
        self._asked: deque[_Request] = deque()
        self._progress: Progress | None = None
        """of the comparison that is under way"""
        self._under_way: _Comparison | None = None

    def ask(self, repo: str | None, repair: bool) -> Work:
        """For any thread. `{repos: [Verification as JSON]}`; done when all is repaired too."""
        work = Work(self.progress)

        def begin() -> dict[str, Any]:
            names = deque(each.name for each in named(self._engine.catalog, repo))
            self._asked.append(_Request(work, names, repair, self._engine.inbox.promise(work)))
            self.due = time.monotonic()
            return {}

        self._engine.ask(begin).hand_on_failure(work)
        return work

    def progress(self) -> dict[str, Any]:
        """Of the comparison that is under way, or else of what the engine does instead, as JSON."""
        progress = self._progress
        return {**self._engine.progress(), **({} if progress is None else asdict(progress))}

    def run(self) -> None:
        """A slice of one repository."""
        try:
            self._slice()
        finally:
            self.due = time.monotonic() if self._asked or self._under_way else math.inf

    def _slice(self) -> None:
        comparison = self._under_way or self._next()
        if comparison:
            request = comparison.request
            try:
                if self._go_on(comparison):
                    self._end(comparison)
                    request.end_if_done()
            except ReposyncError as error:
                self._end(comparison)
                self._give_up(request, error)
            except BaseException:
                self._end(comparison)
                self._give_up(request, internal_error(f'the comparison of "{comparison.kept.repo.name}"'))
                raise

    def reconfigured(self) -> None:
        """What is under way is begun anew: its index is closed."""
        if self._under_way:
            self._under_way.close()
            self._under_way = self._comparison(self._under_way.kept, self._under_way.request)

    def _next(self) -> _Comparison | None:
        """Begins with the next repository."""
        request = self._asked[0]
        name = request.names.popleft()
        if not request.names:
            self._asked.popleft()
        kept = self._engine.kept.get(name)
        if kept is None:  # it was removed meanwhile
            request.end_if_done()
            return None
        request.left += 1
        self._under_way = self._comparison(kept, request)
        self._engine.activity = f"verifying {name}"
        self._engine.on_change()
        return self._under_way

    def _comparison(self, kept: RepoState, request: _Request) -> _Comparison:
        steps = verification(
            self._engine.workspace,
            kept.repo,
            repair=request.repair,
            on_progress=self._on_progress,
            should_stop=self._should_stop,
        )
        return _Comparison(kept, request, steps)

    def _go_on(self, comparison: _Comparison) -> bool:
        """For a slice. Whether there is no more of it to do."""
        engine, kept, request = self._engine, comparison.kept, comparison.request
        if engine.kept.get(kept.repo.name) is not kept:
            request.left -= 1  # it was removed
            return True
        if engine.watching.ensure():
            engine.look_everywhere()
        until = time.monotonic() + SLICE_S
        while (found := comparison.step()) is None:
            if time.monotonic() >= until:
                return False
        if not (request.repair and found.counts):
            request.found(found)
            return True
        repair = Work(engine.progress)
        repair.on_end(lambda: request.repaired(found, repair))
        with engine.changed:
            kept.read_all = True
            kept.syncs.append(repair)
        return True

    def _end(self, comparison: _Comparison) -> None:
        comparison.close()
        if comparison.kept.repo.paused:
            self._engine.watching.drop(comparison.kept.repo.root)
        self._under_way = self._progress = None
        self._engine.activity = ""
        self._engine.last_work = time.monotonic()
        return_memory()
        self._engine.on_change()

    def _give_up(self, request: _Request, error: ReposyncError) -> None:
        if request in self._asked:
            self._asked.remove(request)
        if isinstance(error, CorruptStoreError):
            self._engine.distrust_store()
            error = CorruptStoreError(f"the index is damaged, and is being mended: {error}")
        if isinstance(error, InterruptedSyncError):
            error = ReposyncError("the service is stopping")
        request.work.fail(error)
        request.forget()

    def _on_progress(self, progress: Progress) -> None:
        self._engine.heartbeat()
        self._progress = progress

    def _should_stop(self) -> bool:
        self._engine.heartbeat()
        return self._engine.is_stopping


class _Comparison:
    """One repository's, step by step."""

    def __init__(self, kept: RepoState, request: _Request, steps: Steps) -> None:
        self.kept = kept
        self.request = request
        self._steps = steps

    def step(self) -> Verification | None:
        """What was found, after the last step."""
        try:
            next(self._steps)
        except StopIteration as end:
            found: Verification = end.value
            return found
        return None

    def close(self) -> None:
        """Goes no further."""
        self._steps.close()


class _Request:
    """What one caller asked for."""

    def __init__(self, work: Work, names: deque[str], repair: bool, forget: Callable[[], None]) -> None:
        self.work = work
        self.names = names
        """those that are still to be compared"""
        self.repair = repair
        self.forget = forget
        self.left = 0
        """those that were begun and not ended"""
        self._found: list[Verification] = []

    def found(self, verification: Verification) -> None:
        """One is done with."""
        self._found.append(verification)
        self.left -= 1

    def repaired(self, verification: Verification, repair: Work) -> None:
        """One was repaired, or could not be."""
        try:
            repair.result()
        except ReposyncError as error:
            self.work.fail(error)
            self.forget()
            return
        verification.repaired = True
        self.found(verification)
        self.end_if_done()

    def end_if_done(self) -> None:
        """Tells the caller, if nothing is left."""
        if not self.names and not self.left:
            self.work.done({"repos": [each.to_dict() for each in self._found]})
            self.forget()
