"""What others ask of the service, handed to whatever engine there is by now."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

from reposyncd.app.workspace import Workspace
from reposyncd.config import Config
from reposyncd.daemon.engine.loop import Engine
from reposyncd.daemon.engine.registry import RepoRegistry
from reposyncd.daemon.engine.repo_state import RepoState
from reposyncd.daemon.engine.verification import Verifying
from reposyncd.daemon.engine.work import Flush, Work
from reposyncd.daemon.events import internal_error, say_unexpected
from reposyncd.errors import (
    CorruptStoreError,
    LethalOperationError,
    LethalTextError,
    NotFoundError,
    RebuildingError,
    ReposyncError,
    StoreError,
    UsageError,
)
from reposyncd.model import Notice
from reposyncd.search.query import Found, Target, left_out, outdated

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
            return {"runs": [run.to_dict(each) for each, run in workspace.history(repo, limit)]}

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
        with self.engine.changed:
            self.engine.check_begun()
            kept = self._named(repo)
            targets, notices = _searched(kept)
        workspace = self.engine.workspace
        try:
            try:
                hits = workspace.nearest(query, targets, limit)
            except LethalOperationError:
                raise
            except StoreError as error:
                # The store was replaced meanwhile, or the index process by a reload; or a rebuild has ended, and what
                # is on record of it is not in memory yet.
                serving = self._serving(kept)
                if isinstance(error, CorruptStoreError) and serving == targets:
                    raise
                hits = workspace.nearest(query, serving, limit)
        except LethalTextError:  # the query's
            raise
        except (CorruptStoreError, LethalOperationError) as error:
            self.engine.distrust_store()
            raise CorruptStoreError(f"the index is damaged, and is being mended: {error}") from error
        work = Work(self.engine.progress)
        found = Found(hits, tuple(notices))
        work.done(
            {
                "hits": [asdict(hit) for hit in found.hits],
                "complete": found.is_complete,
                "notices": [{"repo": each.repo, "text": each.text} for each in found.notices],
            }
        )
        return work

    def _serving(self, kept: Sequence[RepoState]) -> list[Target]:
        """What can be searched of these repositories by now, read beside whatever the engine does."""
        with Workspace(self._config, self._environ) as workspace:
            return [
                target
                for each in kept
                for generation in workspace.catalog.generations(each.repo)
                if generation.state == "serving" and (target := workspace.target(each.repo, generation))
            ]

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


def _searched(kept: Sequence[RepoState]) -> tuple[list[Target], list[Notice]]:
    """What is searched of these repositories, and what is to be said of it. Under the engine's lock. Raises UsageError
    and RebuildingError if nothing can be searched."""
    targets: list[Target] = []
    notices: list[Notice] = []
    refused: list[Notice] = []
    for each in kept:
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
