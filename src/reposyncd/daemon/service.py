"""The service: an engine, its API, and their end."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

from reposyncd.config import Config
from reposyncd.daemon.api import Api
from reposyncd.daemon.engine import Engine
from reposyncd.daemon.gentle import lower_priority
from reposyncd.daemon.report import report
from reposyncd.daemon.roster import Discovery, Missing, Roots, Roster
from reposyncd.daemon.tickets import Flush, Work
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
"""How long the batches that are under way may take at the end."""


class Daemon:
    """A `ports.Service` over an engine. `start` returns when the repositories are known and the API answers."""

    def __init__(
        self,
        config: Config,
        environ: Mapping[str, str],
        *,
        index: VectorIndex | None = None,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._config = config
        self._started = time.monotonic()
        self._ready = threading.Event()
        self._ended = threading.Event()
        self.error: BaseException | None = None
        self.engine = Engine(config, environ, on_ready=self._ready.set, on_end=self._on_end, index=index, now_ns=now_ns)
        self._roster = Roster(self.engine)
        self._discovery = Discovery(self.engine, self._roster)
        self.engine.errands += [self._discovery, Missing(self.engine, self._roster), Roots(self.engine)]
        self.engine.errands.append(self._roster.removed)
        self._api: Api | None = None

    def start(self) -> None:
        """Raises what keeps it from starting: BusyError, if another process writes to the state."""
        self.engine.start()
        while not self._ready.wait(0.1):
            if self._ended.is_set():
                break
        if self.error:
            raise self.error
        try:
            self._api = Api(self, self._config.socket, state_dir=self._config.state_dir)
        except BaseException:
            self.stop()
            raise

    def wait(self) -> None:
        """Returns when the engine has ended."""
        self._ended.wait()

    def ask_to_stop(self) -> None:
        """Returns at once; `wait` returns when it is done."""
        self.engine.stop()

    def stop(self) -> None:
        """Ends everything, and returns when it has."""
        self.ask_to_stop()
        self._ended.wait(STOP_S)
        if self._api:
            self._api.close()

    def _on_end(self, error: BaseException | None) -> None:
        self.error = error
        self._ended.set()
        self._ready.set()

    # ports.Service ----------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """What is kept, and how current it is."""
        return report(self.engine, self._started, self._discovery.problems)

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

        asked = self.engine.ask(ask)
        return _Chained(asked, work)

    def flush(self, repo: str | None) -> Work:
        """Done when every change of before is in the index."""
        settled = self.engine.watching.settle(SETTLE_S)
        with self.engine.changed:
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


class _Chained(Work):
    """Work that begins when the asking for it is done; fails if that does."""

    def __init__(self, asked: Work, work: Work) -> None:
        super().__init__(work.progress)
        self._asked = asked
        self._work = work

    def wait(self, timeout_s: float) -> bool:
        until = time.monotonic() + timeout_s
        if not self._asked.wait(timeout_s):
            return False
        return self._failed or self._work.wait(max(0.0, until - time.monotonic()))

    def result(self) -> dict[str, Any]:
        self._asked.result()
        return self._work.result()

    @property
    def _failed(self) -> bool:
        try:
            self._asked.result()
        except ReposyncError:
            return True
        return False


def run(config: Config, environ: Mapping[str, str], say: Callable[[str], None]) -> None:
    """The service in the foreground, until SIGTERM or SIGINT. Raises what it ended of."""
    lower_priority(config.limits.nice)
    daemon = Daemon(config, environ)

    def stop(number: int, frame: FrameType | None) -> None:
        if daemon.engine.is_stopping:
            os._exit(128 + number)  # nothing is lost: what is under way is done again
        daemon.ask_to_stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    daemon.start()
    say(f"serving on {config.socket}, index in {config.state_dir}")
    daemon.wait()
    daemon.stop()
    if daemon.error:
        raise daemon.error
    say("stopped")
