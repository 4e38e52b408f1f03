"""What others ask of the service, passed on to the engine that there is by then."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

from reposyncd.app.workspace import Workspace
from reposyncd.config import Config
from reposyncd.daemon.engine.loop import Engine
from reposyncd.daemon.engine.snapshots import RepoSnapshot
from reposyncd.daemon.engine.work import Work
from reposyncd.daemon.events import internal_error, say_unexpected
from reposyncd.errors import (
    CorruptStoreError,
    LethalOperationError,
    LethalTextError,
    RebuildingError,
    ReposyncError,
    StoreError,
    UsageError,
)
from reposyncd.model import Notice
from reposyncd.search.query import Found, Target, left_out, outdated

SETTLE_S = 10.0
"""How long a flush waits for the events of before. Then the trees are scanned instead."""

WORKERS = 4
"""Searches and flushes that are begun at the same time. A search takes milliseconds, or waits for a batch."""


class Requests:
    """A `ports.Service`, except for `status`. The subclass sets `engine`, and replaces it when it has died."""

    engine: Engine
    _config: Config
    _environ: Mapping[str, str]

    def __init__(self) -> None:
        self._workers = ThreadPoolExecutor(WORKERS, "ask")

    def end_requests(self) -> None:
        """No request is begun any more."""
        self._workers.shutdown(wait=False)

    def add(self, path: str, name: str | None) -> Work:
        """See `ports.Service`."""
        engine = self.engine

        def add() -> dict[str, str]:
            repo = engine.jobs.tracking.add(path, name).repo
            return {"name": repo.name, "root": repo.root}

        return engine.ask(add)

    def remove(self, repo: str) -> Work:
        """See `ports.Service`."""
        engine = self.engine
        return engine.ask(lambda: engine.jobs.tracking.remove(repo))

    def pause(self, repo: str | None) -> Work:
        """See `ports.Service`."""
        engine = self.engine
        return engine.ask(lambda: engine.jobs.tracking.pause(repo))

    def resume(self, repo: str | None) -> Work:
        """See `ports.Service`."""
        engine = self.engine
        return engine.ask(lambda: engine.jobs.tracking.resume(repo))

    def sync(self, path: str, name: str | None, full: bool) -> Work:
        """See `ports.Service`."""
        engine = self.engine
        work = Work(engine.progress)
        work.fail_with(engine.ask(lambda: engine.jobs.tracking.sync(path, name, work, full=full)))
        return work

    def verify(self, repo: str | None, repair: bool) -> Work:
        """See `ports.Service`."""
        engine = self.engine

        def progress() -> Any:
            return engine.jobs.verification.progress() if engine.lifecycle.has_begun else engine.progress()

        work = Work(progress)
        work.fail_with(engine.ask(lambda: engine.jobs.verification.request(repo, repair, work)))
        return work

    def runs(self, repo: str | None, limit: int) -> Any:
        """See `ports.Service`. Not before the engine has begun, which may be rebuilding the manifest."""
        if not self.engine.lifecycle.has_begun:
            self.engine.lifecycle.check_begun()
        with Workspace(self._config, self._environ) as workspace:
            if repo is None and not workspace.catalog.repos():
                return {"runs": []}
            return {"runs": [run.to_dict(each) for each, run in workspace.history(repo, limit)]}

    def flush(self, repo: str | None) -> Work:
        """See `ports.Service`."""
        return self._in_worker(lambda: self._flush(repo))

    def _flush(self, repo: str | None) -> Work:
        engine = self.engine
        if engine.lifecycle.has_begun:
            return self._request_flush(engine, repo, has_seen_events=engine.watching.settle(SETTLE_S))
        work = Work(engine.progress)
        work.fail_with(engine.ask(lambda: work.end_as(self._request_flush(engine, repo, has_seen_events=False))))
        return work

    def _request_flush(self, engine: Engine, repo: str | None, *, has_seen_events: bool) -> Work:
        engine.lifecycle.check_begun()
        return engine.registry.request_flush(
            repo, has_seen_events=has_seen_events, now=time.monotonic(), progress=engine.progress
        )

    def search(self, query: str, repo: str | None, limit: int) -> Work:
        """See `ports.Service`."""
        return self._in_worker(lambda: self._search(query, repo, limit))

    def _search(self, query: str, repo: str | None, limit: int) -> Work:
        engine = self.engine
        engine.lifecycle.check_begun()
        repos = engine.registry.named(repo)
        targets, notices = _searched(repos)
        workspace = engine.workspace
        try:
            try:
                hits = workspace.nearest(query, targets, limit)
            except LethalOperationError:
                raise
            except StoreError as error:
                # The store was replaced meanwhile, or the index process by a reload; or a rebuild has ended, and what
                # is on record of it is not in memory yet.
                serving = self._serving(repos)
                if isinstance(error, CorruptStoreError) and serving == targets:
                    raise
                hits = workspace.nearest(query, serving, limit)
        except LethalTextError:  # the query's
            raise
        except (CorruptStoreError, LethalOperationError) as error:
            engine.invalidate_store()
            raise CorruptStoreError(f"the index is damaged, and is being mended: {error}") from error
        work = Work(engine.progress)
        found = Found(hits, tuple(notices))
        work.done(
            {
                "hits": [asdict(hit) for hit in found.hits],
                "complete": found.is_complete,
                "notices": [{"repo": each.repo, "text": each.text} for each in found.notices],
            }
        )
        return work

    def _serving(self, repos: Sequence[RepoSnapshot]) -> list[Target]:
        """What can be searched of these repositories by now, read beside whatever the engine does."""
        with Workspace(self._config, self._environ) as workspace:
            return [
                target
                for each in repos
                for generation in workspace.catalog.generations(each.repo)
                if generation.state == "serving" and (target := workspace.target(each.repo, generation))
            ]

    def _in_worker(self, ask: Callable[[], Work]) -> Work:
        """The work that `ask` returns. `ask` may take seconds; it is called in a thread of its own."""
        work = Work(self.engine.progress)

        def run() -> None:
            if not work.is_wanted:
                work.fail(ReposyncError("the request was cancelled"))
                return
            try:
                work.end_as(ask())
            except ReposyncError as error:
                work.fail(error)
            except Exception as error:
                say_unexpected("a request", error)
                work.fail(internal_error("a request"))

        try:
            self._workers.submit(run)
        except RuntimeError:  # it was shut down
            work.fail(ReposyncError("the service is stopping"))
        return work


def _searched(repos: Sequence[RepoSnapshot]) -> tuple[list[Target], list[Notice]]:
    """What is searched of these repositories, and what is to be said of it. Raises UsageError and RebuildingError if
    nothing can be searched."""
    targets: list[Target] = []
    notices: list[Notice] = []
    refused: list[Notice] = []
    for each in repos:
        stored, name = each.stored, each.repo.name
        progress = (each.progress.files_done, each.progress.files_total) if each.progress else None
        if stored.collection:
            targets.append(Target(stored.collection, stored.embedder))
        if stored.is_outdated:
            notices.append((outdated if stored.collection else left_out)(name, progress))
        elif stored.chunks and not stored.collection:
            refused.append(Notice(name, f"it is not searched: {each.failure}", is_left_out=True))
    if not targets and notices:
        raise RebuildingError("; ".join(f"{each.repo}: {each.text}" for each in notices))
    if not targets and refused:
        raise UsageError("; ".join(f"{each.repo}: {each.text}" for each in refused))
    if not targets:
        raise UsageError("nothing is indexed yet; the first index is still to be made")
    return targets, notices + refused
