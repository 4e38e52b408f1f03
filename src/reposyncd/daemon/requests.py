"""Passes requests on to the engine, which may have been replaced since."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from reposyncd.app.operations import candidates, history
from reposyncd.app.workspace import Workspace
from reposyncd.config import Config
from reposyncd.daemon.engine.loop import Engine
from reposyncd.daemon.engine.snapshots import RepoSnapshot
from reposyncd.daemon.engine.work import Work
from reposyncd.daemon.events import internal_error, log_unexpected
from reposyncd.errors import ReposyncError, StoreError
from reposyncd.search.select import Candidate, Selection, Target, select
from reposyncd.search.service import SearchService

SETTLE_S = 10.0
"""How long a flush waits until all earlier events were read. After that, the trees are scanned instead."""

WORKERS = 4
"""How many searches and flushes are begun at the same time. A search takes milliseconds, or waits for a batch."""


class Requests:
    """A `ports.Service` without `status`. The subclass sets `engine`, and replaces it when it has died."""

    engine: Engine
    _config: Config
    _environ: Mapping[str, str]

    def __init__(self) -> None:
        self._workers = ThreadPoolExecutor(WORKERS, "ask")

    def end_requests(self) -> None:
        """Begins no further request."""
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
        """See `ports.Service`. Fails before the engine has begun, because it may be rebuilding the manifest."""
        if not self.engine.lifecycle.has_begun:
            self.engine.lifecycle.check_begun()
        with Workspace(self._config, self._environ) as workspace:
            if repo is None and not workspace.catalog.repos():
                return {"runs": []}
            return {"runs": [run.to_dict(each) for each, run in history(workspace, repo, limit)]}

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

        def on_damage(error: StoreError) -> str:
            engine.invalidate_store()
            return f"the index is damaged and is being repaired: {error}"

        workspace = engine.workspace
        found = SearchService(lambda: workspace.index, workspace.processes.embed_query, on_damage).search(
            query,
            limit,
            lambda: select([_candidate(each) for each in repos], is_updated=True),
            lambda: self._select_on_record({each.repo.name for each in repos}),
        )
        work = Work(engine.progress)
        work.done(found.to_dict())
        return work

    def _select_on_record(self, names: Set[str]) -> Selection:
        """What a search of these repositories uses, as it is on record: the engine does not know yet of a rebuild that
        has just ended. Does not wait for the engine."""
        with Workspace(self._config, self._environ) as workspace:
            repos = [repo for repo in workspace.catalog.repos() if repo.name in names]
            return select(candidates(workspace, repos), is_updated=True)

    def _in_worker(self, ask: Callable[[], Work]) -> Work:
        """The work that `ask` returns. `ask` may take seconds, so it is called in a thread of its own."""
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
                log_unexpected("a request", error)
                work.fail(internal_error("a request"))

        try:
            self._workers.submit(run)
        except RuntimeError:  # the executor was shut down
            work.fail(ReposyncError("the service is stopping"))
        return work


def _candidate(snapshot: RepoSnapshot) -> Candidate:
    """What a search has to know about a repository."""
    repo, stored, progress = snapshot.repo, snapshot.stored, snapshot.progress
    is_refused = stored.chunks and not stored.collection and not stored.is_outdated
    return Candidate(
        repo.name,
        repo.root,
        target=Target(stored.collection, stored.embedder) if stored.collection else None,
        is_outdated=stored.is_outdated,
        refusal=(snapshot.failure or "it must not be indexed") if is_refused else None,
        rebuilt=(progress.files_done, progress.files_total) if progress else None,
    )
