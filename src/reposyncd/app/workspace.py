"""Joins the rooms: the one place that knows which implementation stands behind which port."""

from __future__ import annotations

import math
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from functools import cached_property
from typing import TYPE_CHECKING

from reposyncd import tree
from reposyncd.embedding import name_of
from reposyncd.errors import (
    BusyError,
    ChunkerLostError,
    CorruptStoreError,
    InterruptedSyncError,
    LethalOperationError,
    LethalTextError,
    RebuildingError,
    RefusedRootError,
    RootMissingError,
    StoreBusyError,
    StoreError,
    TransientStoreError,
    UsageError,
)
from reposyncd.model import (
    WHOLE,
    ChunkCounts,
    DirectoryRow,
    FileCounts,
    FileError,
    Hit,
    Notice,
    Progress,
    Scope,
    SyncResult,
    Waiting,
)
from reposyncd.search.embedders import Embedders
from reposyncd.search.query import Found, Target, left_out, outdated, search
from reposyncd.store.locks import STATE_LOCK, holder
from reposyncd.store.manifest.catalog import Catalog, Generation, Repo
from reposyncd.store.manifest.manifest import Manifest
from reposyncd.store.state import State
from reposyncd.sync.listing import is_current, skips_of
from reposyncd.sync.repos import add, find, named, refusal, root_of
from reposyncd.tree.ignore import IgnoreRules
from reposyncd.tree.offlimits import OffLimits
from reposyncd.tree.scan import ScanObserver, Snapshot, scan

if TYPE_CHECKING:
    from reposyncd.config import Config
    from reposyncd.ports import Chunker, VectorIndex
    from reposyncd.store.manifest.history import Run
    from reposyncd.store.process.supervisor import IndexProcess
    from reposyncd.sync.run import Context
    from reposyncd.sync.runner import SyncRunner
    from reposyncd.sync.verify import Steps, Verification

ScanHook = Callable[["Repo", "Scope", Callable[["ScanObserver | None"], "Snapshot"]], "Snapshot"]
"""(repo, scope, the scan) to what the scan found: it has to make the scan, and may observe it"""

_RECORDS = "records 1; tree=1"
"""The form of ids and metadata in Chroma, and of how files become text, unless `tree.VERSION` tells which files to read
again. A change of it rebuilds every index."""


_CHUNKING_BYTES = 768 << 20
"""Memory that a chunking process may take for its data, whatever it cuts. Cutting a megabyte of code takes 60 MB,
of brackets 320 MB."""

_CHUNKING_BYTES_PER_BYTE = 200
"""And for each byte of the largest file that is read."""

_OPENED_AT_MOST = 3
"""Times that the state is read at the start: the manifest and the store may each have to be made anew in between."""


class Workspace:
    """An open state directory (made if absent, 0700), on which one operation after another is done.

    `index` is by default the index process over the embedded Chroma, `chunker` the chunking processes; `now_ns` is the
    wall clock, nanoseconds. `scan_hook` makes every scan of a repo's tree: a service watches the directories meanwhile.
    `on_death` is told, from another thread, which child process has died and why; it is started again.
    Raises ReposyncError if the directory cannot be used.
    """

    def __init__(
        self,
        config: Config,
        environ: Mapping[str, str] = os.environ,
        *,
        index: VectorIndex | None = None,
        chunker: Chunker | None = None,
        now_ns: Callable[[], int] = time.time_ns,
        scan_hook: ScanHook = lambda repo, scope, scan: scan(None),
        on_death: Callable[[str, str], None] = lambda what, why: None,
    ) -> None:
        self._config = config
        self._environ = environ
        self._now_ns = now_ns
        self._scan_hook = scan_hook
        self._on_death = on_death
        self._state = State(config.state_dir)
        self._index = index
        self._chunker = chunker
        self._index_lock = threading.Lock()
        """held while the index or the chunker is made or taken away: searches ask for it from threads of their own"""
        self._closed = False
        self._probed: dict[str, int] = {}
        self._owns_index, self._owns_chunker = index is None, chunker is None
        self._embedders = Embedders(self._query_embedder)

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the child processes and closes the manifest."""
        with self._index_lock:
            self._closed = True
        if self._chunker:
            self._chunker.close()
        self._embedders.close()
        if self._index:
            self._index.close()
        self._state.close()

    def reconfigure(self, config: Config) -> None:
        """What is done from now on is done as this configuration has it; where the state is does not change."""
        self._config = config
        self.__dict__.pop("fingerprint", None)
        index, chunker = None, None
        with self._index_lock:
            if self._owns_index:
                index, self._index = self._index, None
            if self._owns_chunker:
                chunker, self._chunker = self._chunker, None
        for each in (index, chunker):
            if each:
                each.close()

    def abandon(self) -> None:
        """Ends the child processes at once, whatever they are doing; what they were asked fails. From any thread."""
        index, chunker = self._index, self._chunker  # another thread may replace them meanwhile
        if index:
            index.abandon()
        if chunker:
            chunker.close()

    @property
    def index_stalled_s(self) -> float:
        """For how long nobody has looked after what the index process was asked; 0 if it was asked nothing."""
        index = self._index  # another thread may replace it meanwhile
        return index.stalled_s if index else 0.0

    @property
    def chunking_stalled_s(self) -> float:
        """For how long nobody has looked after what is being cut; 0 if nothing is."""
        chunker = self._chunker  # another thread may replace it meanwhile
        return chunker.stalled_s if chunker else 0.0

    @property
    def chunker(self) -> Chunker:
        """What cuts files, not necessarily started. Raises TransientStoreError after `close`."""
        with self._index_lock:
            if self._chunker is None:
                if self._closed:
                    raise ChunkerLostError("the chunking processes were closed")
                from reposyncd.chunking.pool import SLOW_AT_MOST, ChunkingPool

                threads = self._config.limits.threads
                self._chunker = ChunkingPool(
                    self._config.state_dir,
                    memory_bytes=_CHUNKING_BYTES + _CHUNKING_BYTES_PER_BYTE * self._config.index.max_file_size,
                    idle_s=self._config.store.idle,
                    slow_at_most=min(threads or SLOW_AT_MOST, SLOW_AT_MOST),
                    on_death=lambda why: self._on_death("a chunking process", why),
                )
            return self._chunker

    @property
    def index(self) -> VectorIndex:
        """The index, not necessarily started; one for all threads. Raises TransientStoreError after `close`."""
        with self._index_lock:
            if self._index is None:
                if self._closed:
                    raise TransientStoreError("the index was closed")
                self._index = self._process(
                    self._state.place.link, self._config.embedding.model, self._config.lock.timeout
                )
            return self._index

    def _query_embedder(self, name: str) -> VectorIndex:
        """A process that is only ever asked to embed, and so never opens a store."""
        from reposyncd.store.locks import NO_LOCK

        return self._process(self._state.place.link, name, NO_LOCK, f"{name}-embedder.log")

    def _process(
        self,
        path: str,
        embedder: str,
        lock_timeout_s: float,
        log_name: str = "index-process.log",
        more_slack_s: float = 0.0,
    ) -> IndexProcess:
        from reposyncd.store.chroma.checkpoint import REPLAY_S_PER_ROW
        from reposyncd.store.chroma.database import replayed_rows
        from reposyncd.store.process.supervisor import IndexProcess, thread_limits

        def slack_s() -> float:
            """A log that is replayed, and waiting for the lock, take time of their own."""
            waiting_s = more_slack_s + (lock_timeout_s if lock_timeout_s < math.inf else 0.0)
            with suppress(sqlite3.Error, OSError, TypeError):  # a store that is damaged is found out by its probe
                return waiting_s + replayed_rows(path) * REPLAY_S_PER_ROW
            return waiting_s

        return IndexProcess(
            self._config.state_dir,
            path,
            embedder,
            lock_timeout_s=lock_timeout_s,
            deadline_s=self._config.store.deadline,
            idle_s=self._config.store.idle,
            slack_s=slack_s,
            log_name=log_name,
            environment=thread_limits(self._config.limits.threads),
            on_death=lambda why: self._on_death("the index process", why),
        )

    @property
    def catalog(self) -> Catalog:
        """The repos that are indexed."""
        return self._state.catalog

    @cached_property
    def fingerprint(self) -> str:
        """Of everything that decides what the records of a given file are."""
        from reposyncd.chunking.identity import fingerprint as chunker
        from reposyncd.embedding import identity_of
        from reposyncd.versions import installed_versions

        decoder = "charset_normalizer"
        decoder = f"{decoder}={installed_versions([decoder])[decoder]}"
        return f"{_RECORDS} {decoder}; {chunker()}; {identity_of(self._config.embedding.model)}"

    def open(self, read: Callable[[], None] = lambda: None, on_wait: Callable[[], None] = lambda: None) -> None:
        """Opens the manifest, and has `read` take from it what is wanted at the start. If it is damaged or lost, it is
        made anew, from what the store says, and read again. So is a store that a fresh look finds damaged. The caller
        holds the state lock. Raises a StoreError; TransientStoreError if nothing is known of the store by now."""
        from reposyncd.errors import CorruptManifestError
        from reposyncd.sync.doubt import Doubt

        def heartbeat() -> bool:
            on_wait()
            return False

        doubt = Doubt(self._config.state_dir, lambda: self._look_at_store(heartbeat), now_ns=self._now_ns, wait=on_wait)
        self._state.place.ensure()
        for left in reversed(range(_OPENED_AT_MOST)):
            try:
                self._learn()
                read()
                return
            except CorruptStoreError as error:
                if not left:
                    raise
                if isinstance(error, CorruptManifestError):
                    self._state.renew_manifest(error, self._now_ns())
                else:
                    self.index.release()
                    if evidence := doubt.weigh(error):
                        self._state.renew_store(evidence, self._now_ns(), lambda store: self._salvage(store, heartbeat))
                    self.index.release()

    def _learn(self) -> None:
        """Looks at the manifest. The repos of a new one are learnt from the store."""
        from reposyncd.sync.adopt import adopt

        self._state.check()
        if self.catalog.stamp() is None and not self._state.place.is_empty():
            adopt(self.catalog, self.index, self.fingerprint)
            self.catalog.forget_stamp()

    @property
    def is_store_known(self) -> bool:
        """Whether nobody else has written to the store since the last stamp."""
        return self._state.recognise() is not None

    def stamp(self) -> None:
        """Every record of the store is known as it is now. The caller holds the state lock."""
        self._state.stamp()

    def remove(self, repo: str) -> tuple[Repo, str]:
        """Keeps a repo (its name or root) no longer, and drops its index. Returns the repo, and why its collection
        could not be dropped, "" if it was: what is left of it is dropped by the next sync, removal or service.

        Raises BusyError, NotFoundError and StoreError; nothing is removed then.
        """
        with self.state_lock():
            self._state.check()
            [removed] = named(self.catalog, repo)
            self.catalog.remove(removed, decline=True)
            try:
                while self.drop_removed():
                    pass
            except StoreError as error:
                return removed, str(error)
        return removed, ""

    def drop_removed(self) -> bool:
        """Deletes one collection of a removed repo, and forgets the repo with its last one. Whether there may be more.
        The caller holds the state lock. Raises a StoreError."""
        removed = self.catalog.removed()
        if not removed:
            return False
        repo = removed[0]
        generations = self.catalog.generations(repo)
        is_known = self.is_store_known  # what somebody else has written since is for the next sync to find
        if generations:
            self.index.drop(generations[0].collection)
        if len(generations) > 1:
            self.catalog.forget(generations[0])
        else:
            self.catalog.forget_repo(repo)
        if is_known:
            self.stamp()
        return True

    def runs(self, repo: Repo) -> list[Run]:
        """The repo's history, newest first."""
        from reposyncd.store.manifest.history import History

        return History(self._state.db).runs(repo)

    def manifest(self, generation: Generation) -> Manifest:
        """What is recorded of a generation."""
        return Manifest(self._state.db, generation)

    def sync(
        self,
        path: str,
        name: str | None = None,
        *,
        full: bool = False,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> SyncResult:
        """Brings the index of the tree at `path` up to date; see `reposyncd.sync_repository`.

        `on_progress` and `should_stop` are called from this thread, often, and must be quick.
        """
        root = root_of(path, self._config.state_dir)
        with suppress(BusyError, StoreError):
            if self.catalog.removed():  # by somebody who could not drop the collection, or died before
                with self.state_lock(0):
                    while self.drop_removed():
                        pass
        with suppress(StoreError):  # the sync that follows deals with it
            repo = find(self.catalog, root, name)
            if repo and not full and (result := self._if_current(repo)):
                return result
        with suppress(StoreError):  # only sooner; the sync that follows is patient
            self.index.start()
            self.chunker.start()
        return self.runner(
            lambda: find(self.catalog, root, name) or add(self.catalog, root, name),
            lock=self.state_lock,
            patience_s=self._config.store.patience,
            on_progress=on_progress,
            should_stop=should_stop,
        ).sync(full=full)

    def runner(
        self,
        find: Callable[[], Repo],
        *,
        lock: Callable[[], AbstractContextManager[None]],
        patience_s: float,
        on_progress: Callable[[Progress], None],
        should_stop: Callable[[], bool],
        makes_checkpoints: bool = True,
        pace: Callable[[int], None] = lambda chunks: None,
    ) -> SyncRunner:
        """What syncs of one repo are made with; see `sync.runner.SyncRunner`."""
        from reposyncd.sync.runner import SyncRunner

        return SyncRunner(
            state=self._state,
            index=self.index,
            lock=lock,
            context=lambda tell: self._context(tell, should_stop),
            find=find,
            on_progress=on_progress,
            should_stop=should_stop,
            now_ns=self._now_ns,
            patience_s=patience_s,
            make_persister=lambda path: self._persister(path, should_stop),
            look=lambda: self._look_at_store(should_stop),
            salvage=lambda store: self._salvage(store, should_stop),
            lock_timeout_s=self._config.lock.timeout,
            makes_checkpoints=makes_checkpoints,
            pace=pace,
        )

    def _context(self, on_progress: Callable[[Progress], None], should_stop: Callable[[], bool]) -> Context:
        from reposyncd.sync.run import Context

        return Context(
            db=self._state.db,
            index=self.index,
            chunker=self.chunker,
            fingerprint=self.fingerprint,
            scan=self._scan,
            max_file_size=self._config.index.max_file_size,
            allows_secrets=self._allowed.covers,
            now_ns=self._now_ns,
            on_progress=on_progress,
            should_stop=should_stop,
            probed=self._probed,
        )

    def _persister(self, path: str, should_stop: Callable[[], bool]) -> IndexProcess:
        from reposyncd.store.locks import NO_LOCK
        from reposyncd.store.process.supervisor import NO_EMBEDDER

        def look(waiting: Waiting | None) -> None:
            if should_stop():
                raise InterruptedSyncError("stopped while the store was tidied; nothing was changed")

        process = self._process(path, NO_EMBEDDER, NO_LOCK, "checkpoint.log")
        process.on_wait = look
        return process

    def _look_at_store(self, should_stop: Callable[[], bool]) -> None:
        """Returns if the store is sound, and raises as `store.inspection` does."""
        from reposyncd.store.chroma.inspection import READ_S_PER_BYTE, look, size
        from reposyncd.store.process.supervisor import NO_EMBEDDER

        def on_wait(waiting: Waiting | None) -> None:
            if should_stop():
                raise InterruptedSyncError("stopped while the store was looked at; nothing was changed")

        if (place := self._state.place.current()) is None or self._state.place.is_empty():
            return
        slack_s = size(place) * READ_S_PER_BYTE
        process = self._process(place, NO_EMBEDDER, self._config.lock.timeout, "look.log", slack_s)
        process.on_wait = on_wait
        collections = [
            generation.collection
            for repo in self.catalog.repos()
            for generation in self.catalog.generations(repo)
            if generation.state != "doomed"
        ]
        try:
            look(process, collections)
        finally:
            process.close()

    def _salvage(self, store: str, should_stop: Callable[[], bool]) -> str:
        """Takes what is sound out of a store that is given up, and says how much that is."""
        from reposyncd.store.chroma.salvage import salvage

        def on_wait() -> None:
            should_stop()  # which says that this thread lives; it takes seconds, and goes on

        return salvage(self._config.state_dir, store, self._state.db.path, self.fingerprint, on_wait)

    def verify(
        self,
        repo: str | None = None,
        *,
        repair: bool = False,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> list[Verification]:
        """Compares records, manifest and files of a repo (its name or root; None: of all); `repair` makes right what
        is wrong. A store or a manifest too damaged to be compared is CorruptStoreError, or made anew."""
        from reposyncd.sync.verify import ended

        found: list[Verification] = []
        for each in named(self.catalog, repo):
            with self.state_lock():
                steps = self.compare(each, repair=repair, on_progress=on_progress, should_stop=should_stop)
                verification = ended(steps)
            if repair and verification.counts:
                self.sync(each.root, full=True, on_progress=on_progress, should_stop=should_stop)
                verification.repaired = True
            found.append(verification)
        return found

    def compare(
        self,
        repo: Repo,
        *,
        repair: bool,
        on_progress: Callable[[Progress], None],
        should_stop: Callable[[], bool],
    ) -> Steps:
        """Compares records, manifest and files of one repo. The caller holds the state lock.

        With `repair` what a full sync would not see is removed, and that sync, which makes right what was found wrong,
        is left to the caller. Without it a store or a manifest that is too damaged is CorruptStoreError. Between two
        steps the repo may be synced; one whose generation is another then is compared from the beginning.
        """
        from reposyncd.sync.verify import Verification

        while True:
            try:
                current = find(self.catalog, repo.root, None)  # in a manifest made anew it has another number
                if current is None:
                    return Verification(repo.name, repo.root, errors=[FileError("", "it is on record no longer")])
                found = yield from self._compare(current, repair, on_progress, should_stop)
            except (RootMissingError, RefusedRootError) as error:
                return Verification(repo.name, repo.root, errors=[FileError("", str(error))])
            except CorruptStoreError:
                if not repair:
                    raise
                return Verification(repo.name, repo.root, counts={"damaged": 1})
            if found:
                return found

    def _serving(self, repo: Repo) -> Generation | None:
        return next((each for each in self.catalog.generations(repo) if each.state == "serving"), None)

    def _serves(self, repo: Repo, generation: Generation) -> bool:
        serving = self._serving(repo)
        return serving is not None and serving.id == generation.id

    def _compare(
        self, repo: Repo, repair: bool, on_progress: Callable[[Progress], None], should_stop: Callable[[], bool]
    ) -> Generator[None, None, Verification | None]:
        """None: it is another generation, or another manifest, that is to be compared by now."""
        import random

        from reposyncd.store.chroma import checksums
        from reposyncd.sync.pipeline import recover
        from reposyncd.sync.verify import Verification, Verifier

        self.check_root(repo)
        db = self._state.db
        db.check()
        yield
        if self._state.db is not db:
            return None
        generation = self._serving(repo)
        if generation is None:
            errors = [FileError("", f"nothing of it is indexed yet; index it with: reposyncd sync {repo.root}")]
            return Verification(repo.name, repo.root, errors=errors)
        self._state.place.ensure()
        if generation.collection not in self.index.collections():
            return Verification(repo.name, repo.root, counts={"damaged": 1})
        checksums.check(self._state.place.link)
        yield
        if self._state.db is not db or not self._serves(repo, generation):
            return None
        manifest = Manifest(db, generation)
        self.index.probe(generation.collection)
        recover(repo.name, generation.collection, manifest, self.index)
        verifier = Verifier(
            repo=repo,
            generation=generation,
            manifest=manifest,
            index=self.index,
            scan=lambda: self._scan(repo, {}, WHOLE),
            max_file_size=self._config.index.max_file_size,
            now_ns=self._now_ns,
            on_progress=on_progress,
            should_stop=should_stop,
            random=random.Random(),  # noqa: S311 - a sample, not a secret
            embeds=_embedder_of(generation) == self._config.embedding.model,
        )
        found = Verification(repo.name, repo.root)
        for _ in verifier.verify(found):
            yield
            if self._state.db is not db or not self._serves(repo, generation):
                return None
            recover(repo.name, generation.collection, manifest, self.index)  # what a sync meanwhile left half done
        if repair and found.bad:
            self.catalog.set_checked(generation, False)
            self.index.delete(generation.collection, sorted(found.bad)).result()
        return found

    def history(self, repo: str | None, limit: int) -> list[tuple[Repo, Run]]:
        """The last runs of a repo (or of all), newest first."""
        from reposyncd.store.manifest.history import History

        runs = [(each, run) for each in named(self.catalog, repo) for run in History(self._state.db).runs(each, limit)]
        return sorted(runs, key=lambda pair: -pair[1].started_ns)[:limit]

    def search(self, query: str, repo: str | None, limit: int) -> Found:
        """The chunks nearest to the query, best first, of one repo or of all; while one is rebuilt with another model,
        of its index of before. Raises UsageError for a blank query, to which everything is as near as anything else,
        and RebuildingError if there is nothing to search until a rebuild is done."""
        if not query.strip():
            raise UsageError("the query is blank; say what to look for")
        repos = named(self.catalog, repo)

        def look() -> Found:
            targets, notices = self._targets(repos)
            return Found(self.nearest(query, targets, limit), tuple(notices))

        return self._search(look, repos[0])

    def _targets(self, repos: Sequence[Repo]) -> tuple[list[Target], list[Notice]]:
        """What can be searched, and what is to be said of it. Raises RebuildingError and UsageError if nothing can."""
        found: list[Target] = []
        notices: list[Notice] = []
        refused: list[Notice] = []
        for repo in repos:
            generation = self._serving(repo)
            target = generation and self.target(repo, generation)
            if target:
                found.append(target)
            if why := refusal(repo, OffLimits.of(self._config.state_dir)):
                refused.append(Notice(repo.name, f"it is not searched: {why}", is_left_out=True))
            elif generation and generation.fingerprint != self.fingerprint:
                notices.append((outdated if target else left_out)(repo.name, self._rebuilt(repo)))
        if not found and notices and holder(self._lock_path) is not None:
            raise RebuildingError("; ".join(f"{each.repo}: {each.text}" for each in notices))
        if not found and (notices or refused):
            raise UsageError(
                "; ".join(f"{each.repo}: {each.text}" for each in refused)
                or f"{', '.join(each.repo for each in notices)}: indexed with a model that is not installed any more; "
                f"build the index anew with: reposyncd sync {repos[0].root}"
            )
        if not found:
            raise UsageError(f"nothing of it is indexed yet; index it with: reposyncd sync {repos[0].root}")
        return found, notices + refused

    def _rebuilt(self, repo: Repo) -> tuple[int, int] | None:
        """How far the sync of the repo is, if one is under way: (files, of how many)."""
        from reposyncd.store.manifest.history import History

        for run in History(self._state.db).runs(repo, 1):
            if run.outcome == "running":
                return run.files_done, run.files_total
        return None

    def target(self, repo: Repo, generation: Generation) -> Target | None:
        """What a search of the repo asks, if this is what serves: its collection with the embedder that made it, which
        may be the one of before. None if that is not installed any more, if the records are of another form, or if the
        repo is not to be indexed."""
        embedder = _embedder_of(generation)
        is_of_this_form = generation.fingerprint.startswith(f"{_RECORDS} ")
        if not is_of_this_form or embedder is None or refusal(repo, OffLimits.of(self._config.state_dir)):
            return None
        return Target(generation.collection, embedder)

    def nearest(self, query: str, targets: Sequence[Target], limit: int) -> tuple[Hit, ...]:
        """The chunks nearest to the query, best first. For any thread. Raises a StoreError."""

        def embed(name: str, query: str) -> Sequence[float] | None:
            return None if name == self._config.embedding.model else self._embedders.embed(name, query)

        return search(self.index, embed, targets, query, limit)

    def _search(self, search: Callable[[], Found], repo: Repo) -> Found:
        """What the search finds; once more if it fails, since a checkpoint may have put another store in the place, or
        a rebuild another collection."""
        try:
            try:
                return search()
            except (StoreBusyError, LethalOperationError):
                raise
            except StoreError:
                self.index.release()
                return search()
        except LethalTextError:  # the query's
            raise
        except (CorruptStoreError, LethalOperationError) as error:
            with suppress(BusyError, StoreError), self.state_lock(0):
                self._state.catalog.forget_stamp()  # the next sync looks for itself
            raise CorruptStoreError(
                f"the index is damaged ({error}); mend it with: reposyncd sync {repo.root}"
            ) from error

    def _if_current(self, repo: Repo) -> SyncResult | None:
        """The result of a sync that has nothing to do, found without a lock, a child or a write; else None."""
        started = time.monotonic()
        generations = self._state.catalog.generations(repo)
        if len(generations) != 1:
            return None
        [generation] = generations
        manifest = Manifest(self._state.db, generation)
        if not generation.checked or generation.fingerprint != self.fingerprint or manifest.intents():
            return None
        # While another sync writes, the store is as that one knows it, and not as the last one left it.
        if holder(self._lock_path) is None and self._state.recognise() is None:
            return None
        known = manifest.directories()
        snapshot = self._scan(repo, known, WHOLE)
        if snapshot.identity != repo.identity or not is_current(snapshot, known):
            return None
        return SyncResult(
            repo=repo.name,
            root=repo.root,
            files=FileCounts(
                total=generation.files,
                unchanged=generation.files,
                skipped=skips_of(known.values()),
                plain=sum(each.is_indexed for each in manifest.verdicts()),
            ),
            chunks=ChunkCounts(total=generation.chunks),
            bytes_read=0,
            duration_s=time.monotonic() - started,
        )

    def check_root(self, repo: Repo) -> OffLimits:
        """What no scan of the repo enters. Raises RefusedRootError if it was put on record by a version that took any
        directory, and is not to be indexed."""
        off_limits = OffLimits.of(self._config.state_dir)
        if why := refusal(repo, off_limits):
            raise RefusedRootError(why)
        return off_limits

    def _scan(self, repo: Repo, known: Mapping[str, DirectoryRow | None], scope: Scope) -> Snapshot:
        off_limits = self.check_root(repo)
        limit, allowed = self._config.index.max_file_size, self._allowed
        worktrees = self._config.index.worktrees
        salt = repr((limit, tree.VERSION, allowed.digest, worktrees))
        rules = IgnoreRules.for_root(repo.root, self._config.index.exclude, self._environ, salt=salt)

        def look(witness: ScanObserver | None) -> Snapshot:
            return scan(
                repo.root,
                rules,
                {path: row for path, row in known.items() if row is not None},
                now_ns=self._now_ns(),
                max_file_size=limit,
                allowed=allowed,
                worktrees=worktrees,
                off_limits=off_limits,
                scope=scope,
                observer=witness,
            )

        return self._scan_hook(repo, scope, look)

    @property
    def _allowed(self) -> IgnoreRules:
        """Covers the files that may hold secrets."""
        return IgnoreRules.for_patterns(self._config.index.allow_secrets)

    @property
    def _lock_path(self) -> str:
        return os.path.join(self._config.state_dir, STATE_LOCK)

    def state_lock(self, timeout_s: float | None = None) -> AbstractContextManager[None]:
        """Makes this process the one writer of the state. Raises BusyError after the time-out (`lock.timeout`)."""
        from reposyncd.store.locks import state_lock

        return state_lock(self._config.state_dir, self._config.lock.timeout if timeout_s is None else timeout_s)


def _embedder_of(generation: Generation) -> str | None:
    """The embedder that made its vectors, if it is installed in that version."""
    return name_of(generation.fingerprint.rpartition("; ")[2])
