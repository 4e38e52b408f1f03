"""An open state directory: connects the ports with their implementations."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import cached_property
from typing import TYPE_CHECKING

from reposyncd.app.processes import Processes
from reposyncd.app.stores import DEFAULT
from reposyncd.errors import CorruptStoreError
from reposyncd.model import Progress
from reposyncd.ports import Observer, Unobserved
from reposyncd.store.kinds import StoreSettings
from reposyncd.store.locks import STATE_LOCK
from reposyncd.store.manifest.catalog import Catalog, Generation, Repo
from reposyncd.store.manifest.manifest import Manifest
from reposyncd.store.state import State
from reposyncd.sync.scanner import ScanHook, Scanner

if TYPE_CHECKING:
    from reposyncd.config import Config
    from reposyncd.ports import Chunker, RunningIndex, StoreAdmin
    from reposyncd.store.manifest.history import Run
    from reposyncd.sync.run import Context
    from reposyncd.sync.runner import SyncRunner

_RECORDS = "records 1; tree=1"
"""The form of ids and metadata in Chroma, and of how files become text, as far as `tree.VERSION` does not cover it. Any
change rebuilds every index."""

_OPENED_AT_MOST = 3
"""How often the state is read at the start. The manifest and the store may each have to be replaced once."""

_UNOBSERVED = Unobserved()


class Workspace:
    """An open state directory (created if absent, 0700). For one thread, which does one operation after another.
    `index` and `processes` are for any thread.

    By default, `index` is the index process on the store, `store` one of the kind `stores.DEFAULT`, and `chunker` the
    chunking processes. `observer` receives the durations of the stages of syncs. `now_ns` is the wall clock, in
    nanoseconds. `scan_hook` runs every scan of a repository's tree: with it, the service watches the directories at the
    same time. `on_death` is called from another thread with the name of a child process that has died, and why; the
    process is started again. `on_wait` is called about twice a second by a thread that waits for the index outside of a
    sync. Raises ReposyncError if the directory cannot be used.
    """

    def __init__(
        self,
        config: Config,
        environ: Mapping[str, str] = os.environ,
        *,
        index: RunningIndex | None = None,
        store: StoreAdmin | None = None,
        chunker: Chunker | None = None,
        observer: Observer = _UNOBSERVED,
        now_ns: Callable[[], int] = time.time_ns,
        scan_hook: ScanHook = lambda repo, scope, scan: scan(None),
        on_death: Callable[[str, str], None] = lambda what, why: None,
        on_wait: Callable[[], None] = lambda: None,
    ) -> None:
        self.observer = observer
        """of the syncs"""
        self._config = config
        self._environ = environ
        self._now_ns = now_ns
        self._scan_hook = scan_hook
        self.processes = Processes(
            config,
            lambda: DEFAULT.address(self._store_settings()),
            index=index,
            chunker=chunker,
            on_death=on_death,
            on_wait=on_wait,
        )
        """the child processes"""
        store = store or DEFAULT.admin(self._store_settings, self.processes.maintenance)
        self._state = State(config.state_dir, store)
        self._probed: dict[str, int] = {}

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the child processes and closes the manifest."""
        self.processes.close()
        self._state.close()

    def reconfigure(self, config: Config) -> None:
        """Uses another configuration from now on. The state directory must be the same."""
        self._config = config
        self.processes.reconfigure(config)
        self.__dict__.pop("fingerprint", None)

    @property
    def index(self) -> RunningIndex:
        """See `Processes.index`."""
        return self.processes.index

    @property
    def scanner(self) -> Scanner:
        """Scans trees according to the present configuration."""
        return Scanner(self._config, self._environ, self._now_ns, self._scan_hook)

    def _store_settings(self) -> StoreSettings:
        return StoreSettings(self._config.state_dir, self._config.lock.timeout)

    @property
    def config(self) -> Config:
        """The configuration in effect."""
        return self._config

    @property
    def state(self) -> State:
        """The open state directory."""
        return self._state

    @property
    def now_ns(self) -> Callable[[], int]:
        """The wall clock, in nanoseconds."""
        return self._now_ns

    @property
    def catalog(self) -> Catalog:
        """The repositories on record."""
        return self._state.catalog

    @cached_property
    def fingerprint(self) -> str:
        """The identity of everything that decides which records a given file has."""
        from reposyncd.chunking.identity import fingerprint as chunker
        from reposyncd.versions import installed_versions

        decoder = "charset_normalizer"
        decoder = f"{decoder}={installed_versions([decoder])[decoder]}"
        return f"{_RECORDS} {decoder}; {chunker()}; {self.processes.embedder_identity}"

    def open(self, read: Callable[[], None] = lambda: None, on_wait: Callable[[], None] = lambda: None) -> None:
        """Opens the manifest, and calls `read`, which reads from it what the caller needs at the start.

        If the manifest is damaged or lost, a new one is built from the store, and `read` is called again. If the store
        turns out to be damaged, it is replaced, and `read` is called again. In the meantime, `on_wait` is called often.
        The caller holds the state lock. Raises StoreError; TransientStoreError if the store could not be inspected.
        """
        from reposyncd.errors import CorruptManifestError
        from reposyncd.sync.damage import DamageCheck

        state = self._state
        damage = DamageCheck(self._config.state_dir, lambda: state.inspect(on_wait), now_ns=self._now_ns, wait=on_wait)
        for left in reversed(range(_OPENED_AT_MOST)):
            try:
                state.store.ensure()
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
        """Checks the manifest. A new one gets its repositories from the store."""
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
        """Records the present store stamp: every record of the store is known. The caller holds the state lock."""
        self._state.stamp()

    def runs(self, repo: Repo, limit: int | None = None) -> list[Run]:
        """The repository's history, newest run first; at most `limit` runs."""
        from reposyncd.store.manifest.history import RUNS_KEPT, History

        return History(self._state.db).runs(repo, RUNS_KEPT if limit is None else limit)

    def manifest(self, generation: Generation) -> Manifest:
        """What is recorded about a generation."""
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
        """A runner for the syncs of one repository; see `sync.runner.SyncRunner` for the arguments."""
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

        scanner = self.scanner
        return Context(
            db=self._state.db,
            index=self.index,
            chunker=self.processes.chunker,
            fingerprint=self.fingerprint,
            scan=scanner.scan,
            max_file_size=self._config.index.max_file_size,
            allows_secrets=scanner.allowed.covers,
            now_ns=self._now_ns,
            observer=self.observer,
            on_progress=on_progress,
            should_stop=should_stop,
            probed=self._probed,
        )

    def query_embedder(self, generation: Generation) -> str | None:
        """The identity of the embedder that queries of a generation need. None if it is not installed any more, or if
        the records of the generation have another form."""
        identity = _embedder_of(generation)
        has_this_form = generation.fingerprint.startswith(f"{_RECORDS} ")
        return identity if has_this_form and self.processes.has_embedder(identity) else None

    def embeds(self, generation: Generation) -> bool:
        """Whether `index` has the embedder that made the generation."""
        return _embedder_of(generation) == self.processes.embedder_identity

    @property
    def lock_path(self) -> str:
        """The path of the state lock."""
        return os.path.join(self._config.state_dir, STATE_LOCK)

    def state_lock(self, timeout_s: float | None = None) -> AbstractContextManager[None]:
        """Makes this process the only writer of the state. Raises BusyError after the time-out (`lock.timeout`)."""
        from reposyncd.store.locks import state_lock

        return state_lock(self._config.state_dir, self._config.lock.timeout if timeout_s is None else timeout_s)


def _embedder_of(generation: Generation) -> str:
    """The identity of the embedder that made the generation's vectors."""
    return generation.fingerprint.rpartition("; ")[2]
