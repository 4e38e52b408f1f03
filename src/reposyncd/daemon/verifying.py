"""Verification while the service runs: one repository at a time, between other jobs, on the engine's thread."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from reposyncd.daemon.engine import Engine
from reposyncd.daemon.gentle import return_memory
from reposyncd.daemon.tickets import Work
from reposyncd.errors import CorruptStoreError, InterruptedSyncError, ReposyncError
from reposyncd.model import Progress
from reposyncd.sync.repos import named

if TYPE_CHECKING:
    from reposyncd.sync.verify import Verification


class Verifying:
    """Compares repositories when somebody asks for it. A `schedule.Errand`.

    While one is compared nothing is written, so that what is compared stands still; file events are kept meanwhile.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.due = math.inf
        self._asked: deque[_Request] = deque()
        self._progress: Progress | None = None
        """of the comparison that is under way"""

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
        """One repository."""
        request = self._asked[0]
        name = request.names.popleft()
        if not request.names:
            self._asked.popleft()
        self.due = time.monotonic() if self._asked else math.inf
        self._engine.activity = f"verifying {name}"
        self._engine.on_change()
        try:
            if name in self._engine.kept:  # and not removed meanwhile
                request.left += 1
                self._compare(name, request)
        except ReposyncError as error:
            self._give_up(request, error)
        except BaseException:
            self._give_up(request, ReposyncError(f'internal error in the comparison of "{name}"; the log says more'))
            raise
        finally:
            self._engine.activity, self._progress = "", None
            self._engine.last_work = time.monotonic()
            return_memory()
            self._engine.on_change()
        request.end_if_done()

    def reconfigured(self) -> None:
        """It is done as it was asked for."""

    def _give_up(self, request: _Request, error: ReposyncError) -> None:
        if request in self._asked:
            self._asked.remove(request)
            self.due = time.monotonic() if self._asked else math.inf
        if isinstance(error, CorruptStoreError):
            self._engine.distrust_store()
            error = CorruptStoreError(f"the index is damaged, and is being mended: {error}")
        if isinstance(error, InterruptedSyncError):
            error = ReposyncError("the service is stopping")
        request.work.fail(error)
        request.forget()

    def _compare(self, name: str, request: _Request) -> None:
        engine = self._engine
        kept = engine.kept[name]
        if engine.watching.ensure():
            engine.look_everywhere()
        try:
            found = engine.workspace.compare(
                kept.repo, repair=request.repair, on_progress=self._on_progress, should_stop=self._should_stop
            )
        finally:
            if kept.repo.paused:
                engine.watching.drop(kept.repo.root)
        if not (request.repair and found.counts):
            request.found(found)
            return
        repair = Work(engine.progress)
        repair.on_end(lambda: request.repaired(found, repair))
        with engine.changed:
            kept.read_all = True
            kept.syncs.append(repair)

    def _on_progress(self, progress: Progress) -> None:
        self._engine.beat()
        self._progress = progress

    def _should_stop(self) -> bool:
        self._engine.beat()
        return self._engine.is_stopping


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
