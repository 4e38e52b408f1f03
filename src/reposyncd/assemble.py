"""Joins the rooms: the one place that knows which implementation stands behind which port."""

from __future__ import annotations

import math
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from functools import cached_property
from typing import TYPE_CHECKING

from reposyncd.errors import (
    BusyError,
    CorruptStoreError,
    InterruptedSyncError,
    LethalOperationError,
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
    Progress,
    Scope,
    SyncResult,
    Waiting,
)
from reposyncd.store.catalog import Catalog, Generation, Repo
from reposyncd.store.locks import STATE_LOCK, holder
from reposyncd.store.manifest import Manifest
from reposyncd.store.state import State
from reposyncd.sync.compare import is_current, skips_of
from reposyncd.sync.repos import add, find, named, root_of
from reposyncd.tree.ignore import IgnoreRules
from reposyncd.tree.scan import Snapshot, Witness, scan

if TYPE_CHECKING:
    from reposyncd.config import Config
    from reposyncd.ports import VectorIndex
    from reposyncd.store.history import Run
    from reposyncd.store.process import IndexProcess
    from reposyncd.sync.run import Context
    from reposyncd.sync.upkeep import Upkeep
    from reposyncd.sync.verify import Verification

Look = Callable[["Repo", "Scope", Callable[["Witness | None"], "Snapshot"]], "Snapshot"]
"""(repo, scope, the scan) to what the scan found"""

_RECORDS = "records 1"
"""The form of ids and metadata in Chroma. A change of it rebuilds every index."""


_OPENED_AT_MOST = 3
"""Times that the state is read at the start: the manifest and the store may each have to be made anew in between."""


class Workspace:
    """An open state directory (made if absent, 0700), on which one operation after another is done.

    `index` is by default the index process over the embedded Chroma; `now_ns` is the wall clock, nanoseconds.
    Raises ReposyncError if the directory cannot be used.
    """

    def __init__(
        self,
        config: Config,
        environ: Mapping[str, str] = os.environ,
        *,
        index: VectorIndex | None = None,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._config = config
        self._environ = environ
        self._now_ns = now_ns
        self._state = State(config.state_dir)
        self._index = index
        self._index_lock = threading.Lock()
        """held while the index is made or taken away: searches ask for it from threads of their own"""
        self._closed = False
        self._probed: dict[str, int] = {}
        self.look: Look = lambda repo, scope, scan: scan(None)
        """makes every scan of a repo's tree; a service watches the directories meanwhile"""
        self._owns_index = index is None
        self.on_index_death: Callable[[str], None] = lambda why: None
        """told, from another thread, when the index process has died and is started again"""

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the index process and closes the manifest."""
        with self._index_lock:
            self._closed = True
        if self._index:
            self._index.close()
        self._state.close()

    def reconfigure(self, config: Config) -> None:
        """What is done from now on is done as this configuration has it; where the state is does not change."""
        self._config = config
        self.__dict__.pop("fingerprint", None)
        if not self._owns_index:
            return
        with self._index_lock:
            index, self._index = self._index, None
        if index:
            index.close()

    def abandon(self) -> None:
        """Ends the index process at once, whatever it is doing; what it was asked fails. From any thread."""
        index = self._index  # another thread may replace it meanwhile
        if index:
            index.abandon()

    @property
    def index_stalled_s(self) -> float:
        """For how long nobody has looked after what the index process was asked; 0 if it was asked nothing."""
        index = self._index  # another thread may replace it meanwhile
        return index.stalled_s if index else 0.0

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

    def _process(
        self, path: str, embedder: str, lock_timeout_s: float, log_name: str = "index-process.log"
    ) -> IndexProcess:
        from reposyncd.store.checkpoint import REPLAY_S_PER_ROW
        from reposyncd.store.chroma_db import replayed_rows
        from reposyncd.store.process import IndexProcess, thread_limits

        def slack_s() -> float:
            """A log that is replayed, and waiting for the lock, take time of their own."""
            waiting_s = lock_timeout_s if lock_timeout_s < math.inf else 0.0
            with suppress(sqlite3.Error, OSError):  # a store that is damaged is found out by its probe
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
            on_death=lambda why: self.on_index_death(why),
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
        from reposyncd.tree import VERSION as tree
        from reposyncd.versions import installed_versions

        decoder = "charset_normalizer"
        tree = f"{tree} {decoder}={installed_versions([decoder])[decoder]}"
        return f"{_RECORDS}; {tree}; {chunker()}; {identity_of(self._config.embedding.model)}"

    def open(self, read: Callable[[], None] = lambda: None) -> None:
        """Opens the manifest, and has `read` take from it what is wanted at the start. If it is damaged or lost, it is
        made anew, from what the store says, and read again. The caller holds the state lock. Raises a StoreError."""
        from reposyncd.errors import CorruptManifestError

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
                    self._state.renew_store(error, self._now_ns())

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

    def runs(self, repo: Repo) -> list[Run]:
        """The repo's history, newest first."""
        from reposyncd.store.history import History

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
        root = root_of(path)
        with suppress(StoreError):  # the sync that follows deals with it
            repo = find(self.catalog, root, name)
            if repo and not full and (result := self._if_current(repo)):
                return result
        with suppress(StoreError):  # only sooner; the sync that follows is patient
            self.index.start()
        return self.upkeep(
            lambda: find(self.catalog, root, name) or add(self.catalog, root, name),
            lock=self.state_lock,
            patience_s=self._config.store.patience,
            on_progress=on_progress,
            should_stop=should_stop,
        ).sync(full=full)

    def upkeep(
        self,
        find: Callable[[], Repo],
        *,
        lock: Callable[[], AbstractContextManager[None]],
        patience_s: float,
        on_progress: Callable[[Progress], None],
        should_stop: Callable[[], bool],
        tidies: bool = True,
        pace: Callable[[int], None] = lambda chunks: None,
    ) -> Upkeep:
        """What syncs of one repo are made with; see `sync.upkeep.Upkeep`."""
        from reposyncd.sync.upkeep import Upkeep

        return Upkeep(
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
            lock_timeout_s=self._config.lock.timeout,
            tidies=tidies,
            pace=pace,
        )

    def _context(self, on_progress: Callable[[Progress], None], should_stop: Callable[[], bool]) -> Context:
        from reposyncd.chunking.chunker import chunk_text
        from reposyncd.sync.run import Context

        return Context(
            db=self._state.db,
            index=self.index,
            chunker=chunk_text,
            fingerprint=self.fingerprint,
            scan=self._scan,
            max_file_size=self._config.index.max_file_size,
            now_ns=self._now_ns,
            on_progress=on_progress,
            should_stop=should_stop,
            probed=self._probed,
        )

    def _persister(self, path: str, should_stop: Callable[[], bool]) -> IndexProcess:
        from reposyncd.store.locks import NO_LOCK
        from reposyncd.store.process import NO_EMBEDDER

        def look(waiting: Waiting | None) -> None:
            if should_stop():
                raise InterruptedSyncError("stopped while the store was tidied; nothing was changed")

        process = self._process(path, NO_EMBEDDER, NO_LOCK, "checkpoint.log")
        process.on_wait = look
        return process

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
        found: list[Verification] = []
        for each in named(self.catalog, repo):
            with self.state_lock():
                verification = self.compare(each, repair=repair, on_progress=on_progress, should_stop=should_stop)
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
    ) -> Verification:
        """Compares records, manifest and files of one repo. The caller holds the state lock.

        With `repair` what a full sync would not see is removed, and that sync, which makes right what was found wrong,
        is left to the caller. Without it a store or a manifest that is too damaged is CorruptStoreError.
        """
        from reposyncd.sync.verify import Verification

        try:
            found, bad = self._compare(repo, on_progress, should_stop)
        except RootMissingError as error:
            return Verification(repo.name, repo.root, errors=[FileError("", str(error))])
        except CorruptStoreError:
            if not repair:
                raise
            return Verification(repo.name, repo.root, counts={"damaged": 1})
        if repair and bad:
            [serving] = [each for each in self.catalog.generations(repo) if each.state == "serving"]
            self.catalog.set_checked(serving, False)
            self.index.delete(serving.collection, bad).result()
        return found

    def _compare(
        self, repo: Repo, on_progress: Callable[[Progress], None], should_stop: Callable[[], bool]
    ) -> tuple[Verification, list[str]]:
        import random

        from reposyncd.store import checksums
        from reposyncd.sync.pipeline import recover
        from reposyncd.sync.verify import Verification, Verifier

        self._state.db.check()
        serving = [each for each in self.catalog.generations(repo) if each.state == "serving"]
        if not serving:
            errors = [FileError("", f"nothing of it is indexed yet; index it with: reposyncd sync {repo.root}")]
            return Verification(repo.name, repo.root, errors=errors), []
        [generation] = serving
        self._state.place.ensure()
        if generation.collection not in self.index.collections():
            return Verification(repo.name, repo.root, counts={"damaged": 1}), []
        checksums.check(self._state.place.link)
        manifest = Manifest(self._state.db, generation)
        self.index.probe(generation.collection)
        recover(repo.name, generation.collection, manifest, self.index)
        verifier = Verifier(
            repo=repo,
            generation=generation,
            manifest=manifest,
            index=self.index,
            snapshot=self._scan(repo, {}, WHOLE),
            max_file_size=self._config.index.max_file_size,
            on_progress=on_progress,
            should_stop=should_stop,
            random=random.Random(),  # noqa: S311 - a sample, not a secret
        )
        return verifier.verify()

    def history(self, repo: str | None, limit: int) -> list[tuple[Repo, Run]]:
        """The last runs of a repo (or of all), newest first."""
        from reposyncd.store.history import History

        runs = [(each, run) for each in named(self.catalog, repo) for run in History(self._state.db).runs(each, limit)]
        return sorted(runs, key=lambda pair: -pair[1].started_ns)[:limit]

    def search(self, query: str, repo: str | None, limit: int) -> tuple[Hit, ...]:
        """The chunks nearest to the query, best first, of one repo or of all."""
        from reposyncd.search.query import search

        wanted = self.fingerprint
        repos = named(self.catalog, repo)
        collections = [
            generation.collection
            for each in repos
            for generation in self._state.catalog.generations(each)
            if generation.fingerprint == wanted and generation.state == "serving"
        ]
        if not collections:
            raise UsageError(
                f"{', '.join(each.name for each in repos)}: indexed by another version or with another model; "
                "build the index anew with: reposyncd sync " + repos[0].root
            )
        return self._search(lambda: search(self.index, collections, query, limit), repos[0])

    def _search(self, search: Callable[[], tuple[Hit, ...]], repo: Repo) -> tuple[Hit, ...]:
        """What the search finds; once more if it fails, since a checkpoint may have put another store in the place."""
        try:
            try:
                return search()
            except (StoreBusyError, LethalOperationError):
                raise
            except StoreError:
                self.index.release()
                return search()
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
            files=FileCounts(total=generation.files, unchanged=generation.files, skipped=skips_of(known.values())),
            chunks=ChunkCounts(total=generation.chunks),
            bytes_read=0,
            duration_s=time.monotonic() - started,
        )

    def _scan(self, repo: Repo, known: Mapping[str, DirectoryRow | None], scope: Scope) -> Snapshot:
        limit = self._config.index.max_file_size
        rules = IgnoreRules.for_root(repo.root, self._config.index.exclude, self._environ, salt=str(limit))

        def look(witness: Witness | None) -> Snapshot:
            return scan(
                repo.root,
                rules,
                {path: row for path, row in known.items() if row is not None},
                now_ns=self._now_ns(),
                max_file_size=limit,
                exclude_dirs=frozenset({os.path.realpath(self._config.state_dir)}),
                scope=scope,
                witness=witness,
            )

        return self.look(repo, scope, look)

    @property
    def _lock_path(self) -> str:
        return os.path.join(self._config.state_dir, STATE_LOCK)

    def state_lock(self, timeout_s: float | None = None) -> AbstractContextManager[None]:
        """Makes this process the one writer of the state. Raises BusyError after the time-out (`lock.timeout`)."""
        from reposyncd.store.locks import state_lock

        return state_lock(self._config.state_dir, self._config.lock.timeout if timeout_s is None else timeout_s)
