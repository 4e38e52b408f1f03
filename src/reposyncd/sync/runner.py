"""A sync as its users know it: alone, patient with trouble that passes, mending what is damaged, leaving it tidy."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace

from reposyncd.errors import (
    CorruptManifestError,
    CorruptStoreError,
    InterruptedSyncError,
    NoSpaceError,
    ReposyncError,
    StoreError,
    TransientStoreError,
    WholeTreeNeededError,
)
from reposyncd.model import WHOLE, Progress, Scope, SyncResult, Waiting
from reposyncd.ports import VectorIndex
from reposyncd.store.chroma import checksums, salvage
from reposyncd.store.chroma.checkpoint import Checkpoint, Persister, examine, is_due
from reposyncd.store.chroma.directory import QUARANTINE
from reposyncd.store.chroma.space import guard
from reposyncd.store.manifest.catalog import Repo
from reposyncd.store.manifest.history import History
from reposyncd.store.state import State
from reposyncd.sync.adopt import adopt
from reposyncd.sync.doubt import Doubt
from reposyncd.sync.retry import Retry
from reposyncd.sync.run import NANOSECONDS, Context, sync_repo

_MENDED_AT_MOST = 3
"""Times that one sync makes the store or the manifest anew: each damaged once, and one more for bad luck."""

_AT_ONCE = 1
"""Times in a row that a sync goes on at once with a store that was found sound; after that patience slows it down."""


@dataclass(frozen=True, slots=True)
class SyncRunner:
    """What surrounds a sync. `find` tells, or makes, the repo; it is asked again after the manifest was made anew."""

    state: State
    index: VectorIndex
    lock: Callable[[], AbstractContextManager[None]]
    """the state lock"""
    context: Callable[[Callable[[Progress], None]], Context]
    """made anew for every try; told where progress goes"""
    find: Callable[[], Repo]
    on_progress: Callable[[Progress], None]
    should_stop: Callable[[], bool]
    now_ns: Callable[[], int]
    patience_s: float
    make_persister: Callable[[str], Persister]
    look: Callable[[], None]
    """has a fresh look at the store, as `sync.doubt.Doubt` wants it"""
    salvage: Callable[[str], str]
    """takes from a store that is given up what is sound, and says how much; told where it is"""
    lock_timeout_s: float
    makes_checkpoints: bool = True
    """whether a checkpoint that is due is made by the sync that made it due"""
    pace: Callable[[int], None] = lambda chunks: None
    """called before a batch of that many new chunks; waits if that is too fast"""

    def sync(self, *, full: bool) -> SyncResult:
        """Makes the index of the repo true, and returns when it is, whatever state it is found in."""
        sync = Sync(self, full=full)
        try:
            return sync.run()
        except BaseException as error:
            sync.end(error)
            raise

    def checkpoint(self, on_progress: Callable[[Progress], None]) -> bool:
        """Makes a checkpoint, if the store is worth one, and returns whether it did. That it fails, or is stopped,
        takes nothing from anybody. The caller holds the state lock, and says afterwards how the store looks."""
        state = self.state
        live = {
            generation.collection: generation.chunks
            for repo in state.catalog.repos()
            for generation in state.catalog.generations(repo)
            if generation.checked
        }
        try:
            if state.place.is_empty() or not is_due(examine(state.place.link), sum(live.values())):
                return False
            on_progress(Progress("checkpoint"))
            checkpoint = Checkpoint(
                state.place,
                live,
                make_persister=self.make_persister,
                release=self.index.release,
                lock_timeout_s=self.lock_timeout_s,
            )
            self.index.release()  # two stores in memory at once are one too many for a small machine
            for step in checkpoint.steps():
                if self.should_stop():
                    break
                step()
        except InterruptedSyncError:
            pass
        except (StoreError, OSError, sqlite3.Error) as error:
            if isinstance(error, CorruptStoreError):
                state.catalog.forget_stamp()  # the original was sound a moment ago; the next sync looks more closely
            on_progress(Progress("checkpoint", trouble=f"the store could not be tidied: {error}"))
        state.place.clean()
        return True


class Sync:
    """One sync, over all its tries. One that was stopped may be run again, and goes on as the same one.

    A full one trusts nothing: the store's index files and every file of the tree are read, every record is compared.
    The distrust is put on record once, at its beginning, and what was proven since then stays proven. So whatever ends
    it early, the next sync, full or not, does what is left of it.

    A sync of a part of the tree leaves no row in the history.
    """

    def __init__(self, runner: SyncRunner, *, full: bool) -> None:
        self._runner = runner
        self._state = runner.state
        self._kind = "full" if full else "sync"
        self._trusts = not full
        """whether what is on record counts: by now, for a full one"""
        self._now_ns = runner.now_ns
        self._started_ns = runner.now_ns()
        self._tell = runner.on_progress
        self._should_stop = runner.should_stop
        self._last = Progress("scan")
        self._run: int | None = None
        self._trouble: Waiting | None = None
        self._mended = self._found_sound = 0
        self._name = ""
        """of the repo, when it is known"""
        self._doubt = Doubt(
            runner.state.path, runner.look, of=lambda: self._name, now_ns=runner.now_ns, wait=self._look_around
        )
        self._scope = WHOLE
        self._done: SyncResult | None = None
        self._patience = Retry(runner.patience_s, on_trouble=self._on_trouble, should_stop=runner.should_stop)

    @property
    def trusts(self) -> bool:
        """Whether it takes what is on record for true: as it was made, or since its distrust is on record."""
        return self._trusts

    @property
    def number(self) -> int | None:
        """Of its row in the history, if it has one by now."""
        return self._run

    def run(self, scope: Scope = WHOLE) -> SyncResult:
        """Makes the index true as far as it is in the scope. Raises InterruptedSyncError when asked to stop; what it
        raises else, and that it is not to be run again, is for the caller to tell `end`."""
        self._scope = scope
        return self._patience.run(self._try)

    def end(self, error: BaseException) -> None:
        """It is not to be run again. The history says why."""
        stopped = isinstance(error, InterruptedSyncError | KeyboardInterrupt)
        with suppress(StoreError):  # what ended it says why
            self._finish("interrupted" if stopped else "failed", error=str(error))

    def _try(self) -> SyncResult:
        with self._runner.lock():
            while True:
                try:
                    return self._once()
                except CorruptManifestError as error:
                    self._mend(error)
                except (CorruptStoreError, TransientStoreError) as error:
                    self._look_into(error)

    def _once(self) -> SyncResult:
        state, runner = self._state, self._runner
        state.place.ensure()
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
                runner.checkpoint(self._tell)
        except InterruptedSyncError:
            state.stamp()
            raise
        except (StoreError, WholeTreeNeededError):
            raise
        except ReposyncError:  # a root that is missing is worth a row in the history
            self._begin(repo)
            raise
        state.stamp()
        self._doubt.progress()
        if not state.catalog.unchecked():  # all repos are stored again, if ever the store was lost
            salvage.discard(state.path)
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
        """Asks for room; what is kept in the quarantine must not be what is in the way."""
        self._runner.pace(chunks)
        ask = guard(self._state.path)
        try:
            ask(chunks)
        except NoSpaceError:
            if not self._state.place.empty_quarantine():
                raise
            ask(chunks)

    # Trouble --------------------------------------------------------------------------------------------

    def _on_trouble(self, error: TransientStoreError) -> None:
        if self._trouble is None:
            self._trouble = Waiting(str(error), self._now_ns())
            with suppress(StoreError):  # a disk that cannot be written to is seen without being told of
                if self._run is not None:
                    History(self._state.db).note(self._run, self._trouble)
        self._tell(replace(self._last, trouble=str(error)))

    def _on_progress(self, progress: Progress) -> None:
        if progress.chunks_done > self._last.chunks_done:
            self._patience.progress()
            self._doubt.progress()
            self._found_sound = 0
            if self._trouble is not None and self._run is not None:
                self._trouble = None
                History(self._state.db).note(self._run, None)
        self._last = progress
        self._tell(progress)

    def _look_into(self, error: CorruptStoreError | TransientStoreError) -> None:
        """Returns if the sync is to go around again: the store is sound, or was made anew. Raises TransientStoreError
        if it is to be patient."""
        if not self._doubt.concerns(error):
            raise error
        self._tell(replace(self._last, trouble=f"the store may be damaged, and is looked at: {error}"))
        self._runner.index.release()
        if evidence := self._doubt.weigh(error):
            self._mend(evidence)
            return
        self._found_sound += 1
        if not isinstance(error, CorruptStoreError) or self._found_sound > _AT_ONCE:
            raise TransientStoreError(f"{error}; a fresh look finds the store sound, so this is tried again") from error

    def _look_around(self) -> None:
        """Called while the store is looked at."""
        if self._should_stop():
            raise InterruptedSyncError("stopped while the store was looked at; nothing was changed")

    def _mend(self, error: CorruptStoreError) -> None:
        self._mended += 1
        if self._mended > _MENDED_AT_MOST:
            raise error
        what = "manifest" if isinstance(error, CorruptManifestError) else "store"
        kept = os.path.join(self._state.path, QUARANTINE)
        self._tell(
            replace(self._last, trouble=f"the {what} is damaged, and is made anew; it is kept in {kept}: {error}")
        )
        self._runner.index.release()
        if isinstance(error, CorruptManifestError):
            self._run = None
            self._state.renew_manifest(error, self._now_ns())
        else:
            self._state.renew_store(error, self._now_ns(), self._runner.salvage)
        # Who searched meanwhile may have opened what is in the quarantine by now.
        self._runner.index.release()

    def _finish(self, outcome: str, result: SyncResult | None = None, error: str | None = None) -> None:
        if self._run is not None:
            History(self._state.db).finish(self._run, self._now_ns(), outcome, result, error)

    # The store ------------------------------------------------------------------------------------------

    def _recognise_store(self) -> None:
        """Is it as the last sync left it? If not, or to be sure, its index files are read; and all records are
        compared. If the manifest is new, its repos are learnt from the store."""
        catalog, place = self._state.catalog, self._state.place
        recorded, recognised = catalog.stamp(), self._state.recognise()
        if recognised and self._trusts:
            if recognised != recorded:  # somebody has read from it; the next look is at the files alone again
                catalog.set_stamp(recognised)
            return
        if current := place.current():
            checksums.check(current)
        if recorded is None:
            adopt(catalog, self._runner.index, self._runner.context(self._tell).fingerprint)
        if not recognised:
            catalog.forget_stamp()
