"""Joins the rooms: the one place that knows which implementation stands behind which port."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from typing import TYPE_CHECKING

from reposyncd import tree
from reposyncd.app.stores import DEFAULT
from reposyncd.embedding import identity_of, spec_of, spec_with
from reposyncd.errors import (
    ChunkerLostError,
    CorruptStoreError,
    EmbedderUnavailableError,
    RefusedRootError,
    TransientStoreError,
)
from reposyncd.model import (
    DirectoryRow,
    Progress,
    Scope,
)
from reposyncd.search.embedders import Embedders
from reposyncd.store.kinds import NO_STORE, StoreSettings
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
    from reposyncd.ports import Chunker, RunningIndex, StoreAddress, StoreAdmin
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
    """An open state directory (created if absent, 0700), on which one operation after another is done.

    `index` is by default the index process over the store, `store` the embedded Chroma directory, `chunker` the
    chunking processes; `now_ns` is the wall clock, nanoseconds. `scan_hook` makes every scan of a repository's tree: a
    service watches the directories meanwhile. `on_death` is called from another thread with the name of a child process
    that has died, and why; the process is started again. `on_wait` is called now and then by a thread that waits for
    the index outside of a sync. Raises ReposyncError if the directory cannot be used.
    """

    def __init__(
        self,
        config: Config,
        environ: Mapping[str, str] = os.environ,
        *,
        index: RunningIndex | None = None,
        store: StoreAdmin | None = None,
        chunker: Chunker | None = None,
        now_ns: Callable[[], int] = time.time_ns,
        scan_hook: ScanHook = lambda repo, scope, scan: scan(None),
        on_death: Callable[[str, str], None] = lambda what, why: None,
        on_wait: Callable[[], None] = lambda: None,
    ) -> None:
        self._config = config
        self._environ = environ
        self._now_ns = now_ns
        self._scan_hook = scan_hook
        self._on_death = on_death
        self._on_wait = on_wait
        self._store = store or DEFAULT.admin(self._store_settings, self._maintenance_process)
        self._state = State(config.state_dir, self._store)
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
        """Uses another configuration from now on. The state directory must be the same."""
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
        """Ends the child processes at once, whatever they are doing; their operations fail. For any thread."""
        index, chunker = self._index, self._chunker  # another thread may replace them meanwhile
        if index:
            index.abandon()
        if chunker:
            chunker.close()

    @property
    def index_stalled_s(self) -> float:
        """See `ports.IndexLifetime.stalled_s`. For any thread."""
        index = self._index  # another thread may replace it meanwhile
        return index.stalled_s if index else 0.0

    @property
    def chunking_stalled_s(self) -> float:
        """See `ports.Chunker.stalled_s`. For any thread."""
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
    def index(self) -> RunningIndex:
        """The index, not necessarily started; one for all threads. Raises TransientStoreError after `close`."""
        with self._index_lock:
            if self._index is None:
                if self._closed:
                    raise TransientStoreError("the index was closed")
                address = DEFAULT.address(self._store_settings())
                self._index = self._process(address, self._embedder)
            return self._index

    @property
    def _embedder(self) -> EmbedderSpec:
        """The embedder that is configured."""
        return spec_of(self._config.embedding)

    def _query_embedder(self, identity: str) -> RunningIndex:
        """A process that only embeds, and so never opens a store. Raises EmbedderUnavailableError if no embedder has
        this identity."""
        if (spec := spec_with(identity, self._embedder)) is None:
            raise EmbedderUnavailableError(f"the embedder that made the index is not installed any more: {identity}")
        return self._process(NO_STORE, spec, f"{spec.kind}-embedder.log")

    def _maintenance_process(self, address: StoreAddress, log_name: str) -> IndexProcess:
        from reposyncd.store.process.supervisor import NO_EMBEDDER

        return self._process(address, NO_EMBEDDER, log_name)

    def _process(
        self, address: StoreAddress, embedder: EmbedderSpec | None, log_name: str = "index-process.log"
    ) -> IndexProcess:
        from reposyncd.store.process.supervisor import IndexProcess, thread_limits

        return IndexProcess(
            self._config.state_dir,
            address,
            embedder,
            deadline_s=self._config.store.deadline,
            idle_s=self._config.store.idle,
            log_name=log_name,
            environment=thread_limits(self._config.limits.threads),
            on_death=lambda why: self._on_death("the index process", why),
            on_wait=lambda waiting: self._on_wait(),
        )

    def _store_settings(self) -> StoreSettings:
        return StoreSettings(self._config.state_dir, self._config.lock.timeout)

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
        """Opens the manifest, and has `read` take from it what is needed at the start. A manifest that is damaged or
        lost is replaced by a new one, which learns from the store, and is read again. A store that turns out to be
        damaged is replaced, too. `on_wait` is called now and then. The caller holds the state lock. Raises a
        StoreError; TransientStoreError if the store could not be inspected."""
        from reposyncd.errors import CorruptManifestError
        from reposyncd.sync.damage import DamageCheck

        state = self._state
        damage = DamageCheck(self._config.state_dir, lambda: state.inspect(on_wait), now_ns=self._now_ns, wait=on_wait)
        state.store.ensure()
        for left in reversed(range(_OPENED_AT_MOST)):
            try:
                self._learn()
                read()
                return
            except CorruptStoreError as error:
                if not left:
                    raise
                if isinstance(error, CorruptManifestError):
                    state.renew_manifest(error, self._now_ns())
                else:
                    self.index.release()
                    if evidence := damage.evidence(error):
                        state.renew_store(evidence, self._now_ns(), self.fingerprint, on_wait)
                    self.index.release()

    def _learn(self) -> None:
        """Checks the manifest. A new one learns its repositories from the store."""
        from reposyncd.sync.adopt import adopt

        self._state.check()
        if self.catalog.stamp() is None and not self._state.store.is_empty():
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
        throttle: Callable[[int], None] = lambda chunks: None,
    ) -> SyncRunner:
        """What the syncs of one repository are made with; see `sync.runner.SyncRunner`."""
        from reposyncd.sync.runner import SyncRunner

        return SyncRunner(
            state=self._state,
            index=self.index,
            fingerprint=self.fingerprint,
            lock=lock,
            context=lambda on_progress: self._context(on_progress, should_stop),
            find=find,
            on_progress=on_progress,
            should_stop=should_stop,
            now_ns=self._now_ns,
            patience_s=patience_s,
            makes_checkpoints=makes_checkpoints,
            throttle=throttle,
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
