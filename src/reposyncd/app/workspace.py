"""Joins the rooms: the one place that knows which implementation stands behind which port."""

from __future__ import annotations

import math
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from functools import cached_property
from typing import TYPE_CHECKING

from reposyncd import tree
from reposyncd.embedding import identity_of, spec_of, spec_with
from reposyncd.errors import (
    ChunkerLostError,
    CorruptStoreError,
    EmbedderUnavailableError,
    InterruptedSyncError,
    RefusedRootError,
    TransientStoreError,
)
from reposyncd.model import (
    DirectoryRow,
    Progress,
    Scope,
    Waiting,
)
from reposyncd.search.embedders import Embedders
from reposyncd.store.locks import STATE_LOCK
from reposyncd.store.manifest.catalog import Catalog, Generation, Repo
from reposyncd.store.manifest.manifest import Manifest
from reposyncd.store.state import State
from reposyncd.sync.repos import refusal
from reposyncd.tree.ignore import IgnoreRules
from reposyncd.tree.offlimits import OffLimits
from reposyncd.tree.scan import ScanObserver, Snapshot, scan

if TYPE_CHECKING:
    from reposyncd.config import Config
    from reposyncd.embedding import EmbedderSpec
    from reposyncd.ports import Chunker, VectorIndex
    from reposyncd.store.manifest.history import Run
    from reposyncd.store.process.supervisor import IndexProcess
    from reposyncd.sync.run import Context
    from reposyncd.sync.runner import SyncRunner

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
                self._index = self._process(self._state.place.link, self._embedder, self._config.lock.timeout)
            return self._index

    @property
    def _embedder(self) -> EmbedderSpec:
        """The embedder that is configured."""
        return spec_of(self._config.embedding)

    def _query_embedder(self, identity: str) -> VectorIndex:
        """A process that is only ever asked to embed, and so never opens a store. Raises EmbedderUnavailableError if
        no embedder has this identity."""
        from reposyncd.store.locks import NO_LOCK

        if (spec := spec_with(identity, self._embedder)) is None:
            raise EmbedderUnavailableError(f"the embedder that made the index is not installed any more: {identity}")
        return self._process(self._state.place.link, spec, NO_LOCK, f"{spec.kind}-embedder.log")

    def _process(
        self,
        path: str,
        embedder: EmbedderSpec | None,
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
    def config(self) -> Config:
        """The configuration that is in effect."""
        return self._config

    @property
    def state(self) -> State:
        """The open state directory."""
        return self._state

    @property
    def now_ns(self) -> Callable[[], int]:
        """The wall clock, nanoseconds."""
        return self._now_ns

    @property
    def catalog(self) -> Catalog:
        """The repos that are indexed."""
        return self._state.catalog

    @cached_property
    def fingerprint(self) -> str:
        """Of everything that decides what the records of a given file are."""
        from reposyncd.chunking.identity import fingerprint as chunker
        from reposyncd.versions import installed_versions

        decoder = "charset_normalizer"
        decoder = f"{decoder}={installed_versions([decoder])[decoder]}"
        return f"{_RECORDS} {decoder}; {chunker()}; {identity_of(self._embedder)}"

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

    def runs(self, repo: Repo, limit: int | None = None) -> list[Run]:
        """The repo's history, newest first; `limit` runs of it at most."""
        from reposyncd.store.manifest.history import RUNS_KEPT, History

        return History(self._state.db).runs(repo, RUNS_KEPT if limit is None else limit)

    def manifest(self, generation: Generation) -> Manifest:
        """What is recorded of a generation."""
        return Manifest(self._state.db, generation)

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
            scan=self.scan,
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

    def query_embedder(self, generation: Generation) -> str | None:
        """The identity of the embedder that queries of a generation need. None if it is not installed any more, or if
        the records of the generation have another form."""
        identity = _embedder_of(generation)
        has_this_form = generation.fingerprint.startswith(f"{_RECORDS} ")
        return identity if has_this_form and spec_with(identity, self._embedder) else None

    def embeds(self, generation: Generation) -> bool:
        """Whether `index` has the embedder that made the generation."""
        return _embedder_of(generation) == identity_of(self._embedder)

    def embed_query(self, embedder: str, query: str) -> Sequence[float] | None:
        """The vector of a query by the embedder of this identity; None if `index` has that embedder and embeds the
        query itself. For any thread. Raises a StoreError."""
        return None if embedder == identity_of(self._embedder) else self._embedders.embed(embedder, query)

    def check_root(self, repo: Repo) -> OffLimits:
        """What no scan of the repo enters. Raises RefusedRootError if it was put on record by a version that took any
        directory, and is not to be indexed."""
        off_limits = OffLimits.of(self._config.state_dir)
        if why := refusal(repo, off_limits):
            raise RefusedRootError(why)
        return off_limits

    def scan(self, repo: Repo, known: Mapping[str, DirectoryRow | None], scope: Scope) -> Snapshot:
        """Lists the scope of a repo's tree; directories that are as in `known` are not listed again. Raises
        RefusedRootError, RootMissingError."""
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
    def lock_path(self) -> str:
        """The file of the state lock."""
        return os.path.join(self._config.state_dir, STATE_LOCK)

    def state_lock(self, timeout_s: float | None = None) -> AbstractContextManager[None]:
        """Makes this process the one writer of the state. Raises BusyError after the time-out (`lock.timeout`)."""
        from reposyncd.store.locks import state_lock

        return state_lock(self._config.state_dir, self._config.lock.timeout if timeout_s is None else timeout_s)


def _embedder_of(generation: Generation) -> str:
    """The identity of the embedder that made its vectors."""
    return generation.fingerprint.rpartition("; ")[2]
