"""What others ask of the service, handed to whatever engine there is by now."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from reposyncd.app.operations import candidates, history
from reposyncd.app.workspace import Workspace
from reposyncd.config import Config
from reposyncd.daemon.engine.loop import Engine
from reposyncd.daemon.engine.registry import RepoRegistry
from reposyncd.daemon.engine.repo_state import RepoState
from reposyncd.daemon.engine.verification import Verifying
from reposyncd.daemon.engine.work import Flush, Work
from reposyncd.daemon.events import internal_error, say_unexpected
from reposyncd.errors import NotFoundError, ReposyncError, StoreError, UsageError
from reposyncd.search.select import Candidate, Selection, Target, select
from reposyncd.search.service import SearchService

SETTLE_S = 10.0
"""How long the watches may take to see what was before a flush. Then the trees are looked at instead."""

WORKERS = 4
"""Searches and flushes that are begun at once. A search takes milliseconds, or waits for a batch."""


class Requests:
    """A `ports.Service`, but for `status`. What it is a part of assembles an engine, and another when that has died."""

    engine: Engine
    _roster: RepoRegistry
    _verifying: Verifying
    _config: Config
    _environ: Mapping[str, str]

    def __init__(self) -> None:
        self._workers = ThreadPoolExecutor(WORKERS, "ask")

    def end_requests(self) -> None:
        """Nothing is begun any more."""
        self._workers.shutdown(wait=False)

    def add(self, path: str, name: str | None) -> Work:
        """Keeps a tree from now on."""
        return self.engine.ask(lambda: self._roster.add(path, name))

    def remove(self, repo: str) -> Work:
        """Drops the index of a repository."""
        return self.engine.ask(lambda: self._roster.remove(repo))

    def pause(self, repo: str | None) -> Work:
        """Leaves a repository (None: all) as it is."""
        return self.engine.ask(lambda: self._roster.set_paused(repo, True))

    def resume(self, repo: str | None) -> Work:
        """Takes it up again."""
        return self.engine.ask(lambda: self._roster.set_paused(repo, False))

    def sync(self, path: str, name: str | None, full: bool) -> Work:
        """Looks at a whole tree, which is kept from now on."""
        work = Work(self.engine.progress)

        def ask() -> dict[str, Any]:
            kept = self._roster.kept(path, name)
            with self.engine.changed:
                kept.syncs.append(work)
                kept.read_all = kept.read_all or full
            return {}

        self.engine.ask(ask).hand_on_failure(work)
        return work

    def verify(self, repo: str | None, repair: bool) -> Work:
        """Compares repositories with their files, one after another."""
        return self._verifying.ask(repo, repair)

    def runs(self, repo: str | None, limit: int) -> Any:
        """The history, read beside whatever the engine does. At its start it may be making the manifest anew."""
        if not self.engine.has_begun:
            with self.engine.changed:
                self.engine.check_begun()
        with Workspace(self._config, self._environ) as workspace:
            if repo is None and not workspace.catalog.repos():
                return {"runs": []}
            return {"runs": [run.to_dict(each) for each, run in history(workspace, repo, limit)]}

    def flush(self, repo: str | None) -> Work:
        """Done when every change of before is in the index."""
        return self._asking(lambda: self._flush(repo))

    def _flush(self, repo: str | None) -> Work:
        engine = self.engine
        if engine.has_begun:
            return self._begun_flush(repo, engine.watching.settle(SETTLE_S))
        work = Work(engine.progress)

        def begin() -> dict[str, Any]:
            work.end_as(self._begun_flush(repo, False))
            return {}

        engine.ask(begin).hand_on_failure(work)
        return work

    def _begun_flush(self, repo: str | None, settled: bool) -> Work:
        with self.engine.changed:
            self.engine.check_begun()
            kept = self._named(repo)
            if repo is None:
                kept = [each for each in kept if not each.repo.paused and not each.missing]
            elif kept[0].repo.paused:
                raise UsageError(f'"{repo}" is paused; go on with: reposyncd resume {repo}')
            flush = Flush([each.repo.name for each in kept], self.engine.progress)
            for each in kept:
                if not settled:
                    each.debounce.add("", True, time.monotonic())
                each.flushes.append(flush)
            self.engine.changed.notify_all()
        return flush

    def search(self, query: str, repo: str | None, limit: int) -> Work:
        """The chunks nearest to a query, by now."""
        return self._asking(lambda: self._search(query, repo, limit))

    def _search(self, query: str, repo: str | None, limit: int) -> Work:
        engine = self.engine
        with engine.changed:
            engine.check_begun()
            known = [_candidate(each) for each in self._named(repo)]

        def on_damage(error: StoreError) -> str:
            engine.distrust_store()
            return f"the index is damaged and is being repaired: {error}"

        workspace = engine.workspace
        service = SearchService(lambda: workspace.index, workspace.embed_query, on_damage)
        found = service.search(
            query, limit, lambda: select(known, is_updated=True), lambda: self._on_record({each.repo for each in known})
        )
        work = Work(engine.progress)
        work.done(found.to_dict())
        return work

    def _on_record(self, names: Set[str]) -> Selection:
        """What a search of these repositories asks by now, read from the disk beside whatever the engine does: when a
        rebuild has just ended, the engine does not know yet."""
        with Workspace(self._config, self._environ) as workspace:
            repos = [repo for repo in workspace.catalog.repos() if repo.name in names]
            return select(candidates(workspace, repos), is_updated=True)

    def _named(self, repo: str | None) -> list[RepoState]:
        """Those meant by a name or a root; all for None. Under the engine's lock. Raises NotFoundError."""
        kept = [each for each in self.engine.kept.values() if repo in (None, each.repo.name, each.repo.root)]
        if repo is not None and not kept:
            names = ", ".join(sorted(self.engine.kept)) or "none"
            raise NotFoundError(f'there is no repository "{repo}"; there is: {names}')
        return kept

    def _asking(self, ask: Callable[[], Work]) -> Work:
        """The work that `ask` returns, which takes seconds to do so; in a thread of its own."""
        work = Work(self.engine.progress)

        def run() -> None:
            if not work.is_wanted:
                work.fail(ReposyncError("nobody waits for it any more"))
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


def _candidate(kept: RepoState) -> Candidate:
    """What a search has to know of a repository. Under the engine's lock."""
    stored, progress = kept.stored, kept.progress
    is_refused = stored.chunks and not stored.collection and not stored.is_outdated
    return Candidate(
        kept.repo.name,
        kept.repo.root,
        target=Target(stored.collection, stored.embedder) if stored.collection else None,
        is_outdated=stored.is_outdated,
        refusal=kept.failure if is_refused else None,
        rebuilt=(progress.files_done, progress.files_total) if progress else None,
    )
