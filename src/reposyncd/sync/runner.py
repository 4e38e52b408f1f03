"""A complete sync: the only one at a time, retried after faults that may pass, with a damaged store replaced, and with
a checkpoint at its end."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace

from reposyncd.errors import (
    CorruptManifestError,
    CorruptStoreError,
    InterruptedSyncError,
    ReposyncError,
    StoreError,
    TransientStoreError,
    WholeTreeNeededError,
)
from reposyncd.model import WHOLE, Progress, Scope, SyncResult, Waiting
from reposyncd.ports import RunningIndex
from reposyncd.store.files import QUARANTINE
from reposyncd.store.manifest.catalog import Repo
from reposyncd.store.manifest.history import History
from reposyncd.store.state import State
from reposyncd.sync.adopt import adopt
from reposyncd.sync.damage import DamageCheck
from reposyncd.sync.retry import Retry
from reposyncd.sync.run import NANOSECONDS, Context, sync_repo

_RENEWED_AT_MOST = 3
"""How often one sync begins a new store or manifest: each may be damaged once, and one more is allowed for."""

_AT_ONCE = 1
"""How many times in a row a sync continues at once with a store that was found sound. After that, it waits first."""


@dataclass(frozen=True, slots=True)
class SyncRunner:
    """Makes the syncs of one repository."""

    state: State
    index: RunningIndex
    fingerprint: str
    """as in `Context`"""
    lock: Callable[[], AbstractContextManager[None]]
    """takes the state lock"""
    context: Callable[[Callable[[Progress], None]], Context]
    """creates the context of one attempt; the argument is called with its progress"""
    find: Callable[[], Repo]
    """finds or creates the repository on record; called again after a new manifest was begun"""
    on_progress: Callable[[Progress], None]
    should_stop: Callable[[], bool]
    now_ns: Callable[[], int]
    patience_s: float
    """for how many seconds a fault may last before a sync gives up"""
    makes_checkpoints: bool = True
    """whether a sync also makes the checkpoint that it has made due"""
    throttle: Callable[[int], None] = lambda chunks: None
    """called before each batch with the number of its new chunks; waits if that is too fast"""

    def sync(self, *, full: bool) -> SyncResult:
        """Makes the index of the repository match its tree, from any state, and returns when that is done."""
        sync = Sync(self, full=full)
        try:
            return sync.run()
        except BaseException as error:
            sync.end(error)
            raise

    def checkpoint(self, on_progress: Callable[[Progress], None]) -> bool:
        """Makes a checkpoint, if one is due. Returns whether one was due. If it fails or is stopped, the store has not
        changed. The caller holds the state lock, and records the store stamp afterwards."""
        state = self.state
        live = {
            generation.collection: generation.chunks
            for repo in state.catalog.repos()
            for generation in state.catalog.generations(repo)
            if generation.checked
        }
        try:
            if not state.store.is_checkpoint_due(live):
                return False
            on_progress(Progress("checkpoint"))
            state.store.checkpoint(live, release=self.index.release, on_wait=self._stop_the_checkpoint)
        except InterruptedSyncError:
            pass
        except StoreError as error:
            if isinstance(error, CorruptStoreError):
                state.catalog.forget_stamp()  # the original was sound a moment ago, so the next sync checks it
            on_progress(Progress("checkpoint", trouble=f"the checkpoint of the store failed: {error}"))
        return True

    def _stop_the_checkpoint(self) -> None:
        if self.should_stop():
            raise InterruptedSyncError("stopped during a checkpoint; nothing was changed")


class Sync:
    """One sync, with all its attempts. If it was stopped, it may be run again, and continues.

    A full sync trusts nothing: the store's index files and every file of the tree are read, and every record is
    compared. At its beginning, it invalidates what is on record. What was proven since then stays proven. So if it ends
    early, the next sync, full or not, does the rest.

    A sync of a part of the tree is not recorded in the history.
    """

    def __init__(self, runner: SyncRunner, *, full: bool) -> None:
        self._runner = runner
        self._state = runner.state
        self._kind = "full" if full else "sync"
        self._trusts = not full
        """whether what is on record counts; for a full sync, once it has invalidated what was on record before"""
        self._now_ns = runner.now_ns
        self._started_ns = runner.now_ns()
        self._report = runner.on_progress
        self._should_stop = runner.should_stop
        self._last = Progress("scan")
        self._run: int | None = None
        self._trouble: Waiting | None = None
        self._renewed = self._found_sound = 0
        self._name = ""
        """identity of the repository on record, once it is known"""
        self._damage = DamageCheck(
            runner.state.path,
            lambda: runner.state.inspect(self._raise_if_stopped),
            of=lambda: self._name,
            now_ns=runner.now_ns,
            wait=self._raise_if_stopped,
        )
        self._scope = WHOLE
        self._done: SyncResult | None = None
        self._retry = Retry(runner.patience_s, on_trouble=self._on_trouble, should_stop=runner.should_stop)

    @property
    def trusts(self) -> bool:
        """Whether it trusts what is on record: it is not full, or has already invalidated what was on record before."""
        return self._trusts

    @property
    def number(self) -> int | None:
        """The id of its row in the history; None if it has none yet."""
        return self._run

    def run(self, scope: Scope = WHOLE) -> SyncResult:
        """Makes the index match the tree within the scope. Raises InterruptedSyncError when asked to stop. If it raises
        anything else, or is not run again after that, the caller must call `end`."""
        self._scope = scope
        return self._retry.run(self._try)

    def end(self, error: BaseException) -> None:
        """Records why it ended. It is not run again."""
        stopped = isinstance(error, InterruptedSyncError | KeyboardInterrupt)
        with suppress(StoreError):  # the error that ended it is more important
            self._finish("interrupted" if stopped else "failed", error=str(error))

    def _try(self) -> SyncResult:
        with self._runner.lock():
            while True:
                try:
                    return self._once()
                except CorruptManifestError as error:
                    self._renew(error)
                except (CorruptStoreError, TransientStoreError) as error:
                    self._inspect_after(error)

    def _once(self) -> SyncResult:
        state, runner = self._state, self._runner
        state.store.ensure()
        state.check()
        self._recognise_store()
        repo = runner.find()
        self._name = repo.name
        if not self._trusts:
            state.catalog.invalidate(repo)
            self._trusts = True
        context = replace(
            runner.context(self._on_progress),
            guard=self._guard,
            begin=lambda: self._begin(repo),
            on_stopped=self._on_stopped,
        )
        try:
            result = sync_repo(context, repo, self._scope)
            if runner.makes_checkpoints:
                runner.checkpoint(self._report)
        except InterruptedSyncError:
            state.stamp()
            raise
        except (StoreError, WholeTreeNeededError):
            raise
        except ReposyncError:  # a missing root is recorded in the history, too
            self._begin(repo)
            raise
        state.stamp()
        self._damage.progress()
        if not state.catalog.unchecked():  # even if the store was lost, all repositories are stored again now
            state.store.discard_salvage()
        if self._done:
            result = self._done.plus(result)
        result = replace(result, duration_s=(self._now_ns() - self._started_ns) / NANOSECONDS)
        self._finish("done", result)
        return result

    def _begin(self, repo: Repo) -> int | None:
        if self._run is None and self._scope.is_whole:
            self._run = History(self._state.db).start(repo, self._kind, self._started_ns)
        return self._run

    def _on_stopped(self, done: SyncResult) -> None:
        self._done = self._done.plus(done) if self._done else done

    def _guard(self, chunks: int) -> None:
        self._runner.throttle(chunks)
        self._state.store.require_space(chunks)

    # Trouble --------------------------------------------------------------------------------------------

    def _on_trouble(self, error: TransientStoreError) -> None:
        if self._trouble is None:
            self._trouble = Waiting(str(error), self._now_ns())
            with suppress(StoreError):  # if the disk cannot be written to, the status shows that anyway
                if self._run is not None:
                    History(self._state.db).note(self._run, self._trouble)
        self._report(replace(self._last, trouble=str(error)))

    def _on_progress(self, progress: Progress) -> None:
        if progress.chunks_done > self._last.chunks_done:
            self._retry.progress()
            self._damage.progress()
            self._found_sound = 0
            if self._trouble is not None and self._run is not None:
                self._trouble = None
                History(self._state.db).note(self._run, None)
        self._last = progress
        self._report(progress)

    def _inspect_after(self, error: CorruptStoreError | TransientStoreError) -> None:
        """Returns if the sync can continue at once: the store is sound, or was replaced. Raises TransientStoreError if
        it has to wait first."""
        if not self._damage.is_due(error):
            raise error
        self._report(replace(self._last, trouble=f"the store may be damaged and is being inspected: {error}"))
        self._runner.index.release()
        if evidence := self._damage.evidence(error):
            self._renew(evidence)
            return
        self._found_sound += 1
        if not isinstance(error, CorruptStoreError) or self._found_sound > _AT_ONCE:
            raise TransientStoreError(
                f"{error}; the store was inspected and is sound, so this will be retried"
            ) from error

    def _raise_if_stopped(self) -> None:
        """Called during an inspection of the store."""
        if self._should_stop():
            raise InterruptedSyncError("stopped during an inspection of the store; nothing was changed")

    def _renew(self, error: CorruptStoreError) -> None:
        self._renewed += 1
        if self._renewed > _RENEWED_AT_MOST:
            raise error
        what = "manifest" if isinstance(error, CorruptManifestError) else "store"
        quarantine = os.path.join(self._state.path, QUARANTINE)
        self._report(
            replace(
                self._last,
                trouble=f"the {what} is damaged and is being replaced; the damaged one is in {quarantine}: {error}",
            )
        )
        self._runner.index.release()
        if isinstance(error, CorruptManifestError):
            self._run = None
            self._state.renew_manifest(error, self._now_ns())
        else:
            # A stop waits for the salvage, which takes seconds. The call shows that this thread makes progress.
            self._state.renew_store(error, self._now_ns(), self._runner.fingerprint, self._ask_to_stop)
        # A search may have opened the store that is now in the quarantine.
        self._runner.index.release()

    def _finish(self, outcome: str, result: SyncResult | None = None, error: str | None = None) -> None:
        if self._run is not None:
            History(self._state.db).finish(self._run, self._now_ns(), outcome, result, error)

    def _ask_to_stop(self) -> None:
        self._should_stop()

    def _recognise_store(self) -> None:
        """Checks whether the store is as the last sync left it. If it is not, or in a full sync, compares its files
        with their checksums, and later all records with the manifest. If the manifest is new, restores its repositories
        from the store."""
        catalog = self._state.catalog
        recorded, recognised = catalog.stamp(), self._state.recognise()
        if recognised and self._trusts:
            if recognised != recorded:  # another program has read from it: so the next comparison is quick again
                catalog.set_stamp(recognised)
            return
        self._state.store.check()
        if recorded is None:
            adopt(catalog, self._runner.index, self._runner.fingerprint)
        if not recognised:
            catalog.forget_stamp()
