"""The service: an engine, its API, and their end."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from reposyncd.assemble import Workspace
from reposyncd.config import Config
from reposyncd.daemon.api import Api
from reposyncd.daemon.engine import STALL_S, Engine
from reposyncd.daemon.notices import DIED, described, say
from reposyncd.daemon.report import report
from reposyncd.daemon.roster import Discovery, Missing, Roots, Roster
from reposyncd.daemon.server import GRACE_S
from reposyncd.daemon.summary import summary
from reposyncd.daemon.supervise import Deaths, Vital
from reposyncd.daemon.tickets import Flush, Work
from reposyncd.daemon.verifying import Verifying
from reposyncd.errors import (
    CorruptStoreError,
    LethalOperationError,
    NotFoundError,
    ReposyncError,
    StoreError,
    UsageError,
)
from reposyncd.ports import VectorIndex
from reposyncd.search.query import search

SETTLE_S = 10.0
"""How long the watches may take to see what was before a flush. Then the trees are looked at instead."""

STOP_S = 30.0
"""How long the batches that are under way may take at the end, where nobody is in a hurry."""

_PATIENCE_S = 1.0
"""How long a look at the state waits for the engine, which holds its lock for microseconds."""

PING_S = 2.0
"""How long the API's thread may take to come by; it takes a millisecond."""

_TROUBLES = 10
"""Deaths that status tells of: the last ones."""


class Daemon:
    """A `ports.Service` over an engine, which is started again when it dies.

    `on_change` is called, from any thread, when `mend` may have something to do, and when a job begins or ends.
    A part that has made no progress for `stall_s`, although it had something to do, is not well.
    """

    def __init__(
        self,
        config: Config,
        environ: Mapping[str, str],
        *,
        index: VectorIndex | None = None,
        now_ns: Callable[[], int] = time.time_ns,
        on_change: Callable[[], None] = lambda: None,
        stall_s: float = STALL_S,
    ) -> None:
        self._stall_s = stall_s
        self._config = config
        self._environ = environ
        self._index = index
        self._now_ns = now_ns
        self._on_change = on_change
        self._started = time.monotonic()
        self.error: BaseException | None = None
        """what the engine ended of, if it has ended badly"""
        self._troubles: deque[str] = deque(maxlen=_TROUBLES)
        """what has died since the start"""
        self._deaths, self._api_deaths = Deaths(), Deaths()
        self._again: float | None = None
        """when the engine is started again"""
        self._api: Api | None = None
        self._api_error: BaseException | None = None
        """what the API's thread died of, until it is started again"""
        self._assemble()
        self._reported: dict[str, Any] = {}
        """the last report"""

    def _assemble(self) -> None:
        """An engine, with its errands."""
        self._ready = threading.Event()
        self._ended = threading.Event()
        self.engine = Engine(
            self._config,
            self._environ,
            on_ready=self._on_ready,
            on_end=self._on_end,
            on_change=self._on_change,
            index=self._index,
            now_ns=self._now_ns,
            stall_s=self._stall_s,
        )
        self._roster = Roster(self.engine)
        self._discovery = Discovery(self.engine, self._roster)
        self._verifying = Verifying(self.engine)
        self.engine.errands += [self._discovery, Missing(self.engine, self._roster), Roots(self.engine)]
        self.engine.errands += [self._roster.removed, self._verifying]

    # Its life, in the main thread -------------------------------------------------------------------------

    def start(self) -> None:
        """Returns when the repositories are known and the API answers. Raises what keeps it from starting: BusyError,
        if another process writes to the state."""
        self.begin()
        self._ready.wait()
        self.serve()

    def begin(self) -> None:
        """Starts the engine; `is_ready` when the repositories are known, or `has_ended`."""
        self.engine.start()

    def serve(self) -> None:
        """Answers from now on. Raises what ended the engine, if it has ended."""
        try:
            if self.error:
                raise self.error
            self.status()
            self._api = self._answering()
        except BaseException:
            self.stop()
            raise

    def _answering(self) -> Api:
        api = Api(self, self._config.socket, state_dir=self._config.state_dir, on_death=self._on_api_death)
        try:
            api.listen(self._config.api)
        except BaseException:
            api.close()
            raise
        return api

    def _on_api_death(self, error: BaseException) -> None:
        self._api_error = error
        self._on_change()

    @property
    def is_ready(self) -> bool:
        """Whether the repositories are known and watched; or the engine has ended before."""
        return self._ready.is_set()

    @property
    def has_ended(self) -> bool:
        """Whether the engine has ended."""
        return self._ended.is_set()

    def mend(self, now: float) -> float | None:
        """Starts again what has died; returns when there will be more to do, on the monotonic clock. Raises what it
        died of, when it dies too often, and what keeps the API from answering again."""
        if self.engine.is_told_to_stop:
            return None
        if self._api and self._api_error:
            error, self._api_error = self._api_error, None
            if self._note_death("the API", error, self._api_deaths, now) is None:
                raise error
            self._api.close()
            self._api = self._answering()
        if not self._ended.is_set():
            return None
        if self._again is None:
            error = self.error or RuntimeError("the engine has ended, and nobody told it to")
            self._again = self._note_death("the engine", error, self._deaths, now)
            if self._again is None:
                raise error
        if now < self._again:
            return self._again
        self._again, self.error = None, None
        self._assemble()
        self.engine.start()
        return None

    def _note_death(self, what: str, error: BaseException, deaths: Deaths, now: float) -> float | None:
        why = described(error)
        self._troubles.append(f"{what} has died, and was started again: {why}")
        say(DIED, what=what, reason=why)
        return deaths.again(now)

    def reconfigure(self, config: Config) -> Work:
        """Done when all is as this configuration has it, but for the places of state and socket. If it cannot listen at
        `api.listen`, the work fails, and everything stays as it was."""
        try:
            if self._api:
                self._api.listen(config.api)
        except ReposyncError as error:
            work = Work(self.engine.progress)
            work.fail(error)
            return work
        self._config = config
        return self.engine.ask(lambda: self.engine.reconfigure(config))

    def ask_to_stop(self) -> None:
        """Returns at once; `has_ended` when it is done."""
        self.engine.stop()

    def abandon(self) -> None:
        """What is under way is cut off: it is done again at the next start."""
        self.engine.abandon()

    def stop(self) -> None:
        """Ends everything, and returns when it has."""
        self.ask_to_stop()
        self._ended.wait(STOP_S)
        self.close()

    def close(self, grace_s: float = GRACE_S) -> None:
        """Answers no more; those who are being answered have `grace_s` to read it."""
        if self._api:
            self._api.close(grace_s)

    @property
    def vitals(self) -> list[Vital]:
        """What has to make progress."""
        return [
            Vital("the engine", lambda: self.engine.is_well),
            Vital("the watcher", lambda: self.engine.is_watcher_well),
            Vital("the index process", lambda: self.engine.is_index_well),
            Vital("the API", lambda: self._api is None or self._api.ping(PING_S)),
        ]

    @property
    def is_busy(self) -> bool:
        """Whether a job is under way."""
        with self.engine.changed:
            return any(kept.running is not None for kept in self.engine.kept.values())

    @property
    def summary(self) -> str:
        """What it is doing, on one line."""
        return summary(self.status())

    def _on_ready(self) -> None:
        self._ready.set()
        self._on_change()

    def _on_end(self, error: BaseException | None) -> None:
        self.error = error
        self._ended.set()
        self._ready.set()
        self._on_change()

    # ports.Service ----------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """What is kept, and how current it is. An engine that hangs keeps nobody from asking: it says so, and what was
        true before."""
        problems = (*self._troubles, *self._discovery.problems)
        if self.engine.changed.acquire(timeout=_PATIENCE_S):
            try:
                self._reported = report(self.engine, self._started, problems)
            finally:
                self.engine.changed.release()
        found = self._reported
        if not self.engine.is_well:
            found = {**found, "daemon": {**found["daemon"], "state": "the engine makes no progress"}}
        return found

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

    def runs(self, repo: str | None, limit: int) -> dict[str, Any]:
        """The history, read beside whatever the engine does."""
        with Workspace(self._config, self._environ) as workspace:
            if repo is None and not workspace.catalog.repos():
                return {"runs": []}
            return {"runs": [run.to_dict(each) for each, run in workspace.history(repo, limit)]}

    def flush(self, repo: str | None) -> Work:
        """Done when every change of before is in the index."""
        settled = self.engine.watching.settle(SETTLE_S)
        with self.engine.changed:
            self.engine.check_alive()
            kept = [each for each in self.engine.kept.values() if repo in (None, each.repo.name, each.repo.root)]
            if repo is not None and not kept:
                raise NotFoundError(f'there is no repository "{repo}"')
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
        with self.engine.changed:
            kept = [each for each in self.engine.kept.values() if repo in (None, each.repo.name, each.repo.root)]
            collections = [each.stored.collection for each in kept if each.stored.collection]
        if repo is not None and not kept:
            raise NotFoundError(f'there is no repository "{repo}"')
        work = Work(self.engine.progress)
        if not collections:
            work.fail(UsageError("nothing is indexed yet; the first index is still to be made"))
            return work
        try:
            try:
                hits = search(self.engine.workspace.index, collections, query, limit)
            except (CorruptStoreError, LethalOperationError):
                raise
            except StoreError:  # the store was replaced meanwhile
                hits = search(self.engine.workspace.index, collections, query, limit)
        except (CorruptStoreError, LethalOperationError) as error:
            self.engine.distrust_store()
            work.fail(CorruptStoreError(f"the index is damaged, and is being mended: {error}"))
        except ReposyncError as error:
            work.fail(error)
        else:
            from dataclasses import asdict

            work.done({"hits": [asdict(hit) for hit in hits]})
        return work
