"""One sync of one repository: generation, recovery after a crash, reconcile, switch, and history."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from reposyncd.errors import (
    CorruptStoreError,
    InterruptedSyncError,
    LethalOperationError,
    RootMissingError,
    WholeTreeNeededError,
)
from reposyncd.model import WHOLE, ChunkCounts, DirectoryRow, Progress, Scope, SyncResult, Waiting
from reposyncd.ports import Chunker, Observer, RunningIndex
from reposyncd.store.manifest.catalog import Catalog, Generation, Repo
from reposyncd.store.manifest.commits import RunProgress
from reposyncd.store.manifest.database import Database
from reposyncd.store.manifest.history import History
from reposyncd.store.manifest.manifest import Manifest
from reposyncd.sync.examine import Examiner
from reposyncd.sync.listing import gone_directories, is_current, skips_of
from reposyncd.sync.pipeline import Pipeline, Totals, compare_records, recover
from reposyncd.sync.reconcile import COMMIT_S, Dirty, Reconciler, ReconcileResult
from reposyncd.sync.stages import StageReport, observed_scan
from reposyncd.tree.read import Tree
from reposyncd.tree.scan import Snapshot

NANOSECONDS = 1_000_000_000

SAVED_NS = 10 * NANOSECONDS
"""If a file was saved within this time, somebody may be waiting for it."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a sync needs. The caller holds the state lock."""

    db: Database
    index: RunningIndex
    chunker: Chunker
    fingerprint: str
    """of the chunker, the embedder and the form of the records; if it differs, a new generation is needed"""
    scan: Callable[[Repo, Mapping[str, DirectoryRow | None], Scope], Snapshot]
    max_file_size: int
    """bytes"""
    allows_secrets: Callable[[str], bool]
    """whether the file at a path may contain secrets; `scan` must use the same rules"""
    now_ns: Callable[[], int]
    observer: Observer
    """receives the duration of each stage: after every commit, and at the end"""
    on_progress: Callable[[Progress], None]
    should_stop: Callable[[], bool]
    guard: Callable[[int], None] = lambda chunks: None
    """called before each batch; raises NoSpaceError if the disk has no space for this many more chunks"""
    begin: Callable[[], int | None] = lambda: None
    """called when there is something to do; returns the run's row in the history, if it has one"""
    on_stopped: Callable[[SyncResult], None] = lambda done: None
    """called with what was done, if a sync was asked to stop"""
    probed: dict[str, int] = field(default_factory=dict)
    """by collection: the session of the index in which it was found sound. All syncs of a process use the same dict"""


def sync_repo(context: Context, repo: Repo, scope: Scope = WHOLE) -> SyncResult:
    """Makes the index of a repository match its tree within the scope, and returns when that is done. The duration in
    the result is 0: the caller sets it.

    Raises RootMissingError if the root is another directory than before, and empty: a disk may not be mounted, so
    nothing is deleted. Raises WholeTreeNeededError if a part cannot be synced alone, InterruptedSyncError and
    StoreError as `Reconciler` does, and CorruptStoreError if the store fails its probe.
    """
    return _Run(context, repo).sync(scope)


def choose_generation(catalog: Catalog, repo: Repo, fingerprint: str) -> Generation:
    """The generation to sync: the one with this fingerprint, else a new one.

    The serving generation keeps serving until its successor is complete. The first one serves from the start.
    """
    alive = [each for each in catalog.generations(repo) if each.state != "doomed"]
    serves = any(each.state == "serving" for each in alive)
    wanted = next((each for each in alive if each.fingerprint == fingerprint), None)
    for each in alive:
        if each.state == "building" and each != wanted:
            catalog.doom(each)
    return wanted or catalog.add_generation(repo, fingerprint, "building" if serves else "serving")


class _Run:
    """One sync that is under way."""

    def __init__(self, context: Context, repo: Repo) -> None:
        self._context = context
        self._repo = repo
        self._run: int | None = None
        self._before = (0, 0)
        self._index = context.index.observed(self._on_wait)
        self._catalog = Catalog(context.db)
        self._history = History(context.db)
        self._waiting: Waiting | None = None
        self._progress: Callable[[], Progress] = lambda: Progress("scan")

    def sync(self, scope: Scope) -> SyncResult:
        generation = choose_generation(self._catalog, self._repo, self._context.fingerprint)
        manifest = Manifest(self._context.db, generation)
        self._context.on_progress(self._progress())
        trusted = bool(generation.checked) and not manifest.intents()
        known, snapshot = self._scan(manifest, scope)
        if not scope.is_whole and (not trusted or snapshot.identity != self._repo.identity):
            raise WholeTreeNeededError(f"{self._repo.root} needs a full scan")
        if trusted and is_current(snapshot, known) and len(self._catalog.generations(self._repo)) == 1:
            self._check_identity(snapshot, False)
            return self._result(generation, ReconcileResult(skipped=skips_of(known.values())), Totals())
        if not self._context.index.session:  # so that both start together; otherwise it starts with the first file
            self._context.chunker.start()
        self._run = self._context.begin()
        if self._run is not None:
            self._before = self._history.progress(self._run)
        orphans = self._check(generation, manifest)
        if orphans is not None:
            if not scope.is_whole:
                raise WholeTreeNeededError(f"the records of {self._repo.name} have to be compared with its files")
            known, snapshot = self._scan(manifest, scope)
        orphans = orphans or set()
        self._check_identity(snapshot, bool(orphans))
        outcome, totals = self._reconcile(generation, manifest, snapshot, known, orphans, scope)
        if orphans:
            self._index.delete(generation.collection, sorted(orphans)).result()
        self._end(generation)
        return self._result(generation, outcome, totals)

    def _end(self, generation: Generation) -> None:
        """Records that the generation is complete, and makes it serve."""
        # Read again: its records may have been compared in the meantime.
        if not self._catalog.generation(generation.id).checked:
            self._catalog.set_checked(generation, True)
        if generation.state == "building":
            self._catalog.switch(self._repo, generation)
        for other in self._catalog.generations(self._repo):
            if other.state == "doomed":
                self._index.drop(other.collection)
                self._catalog.forget(other)

    def _scan(self, manifest: Manifest, scope: Scope) -> tuple[dict[str, DirectoryRow | None], Snapshot]:
        """What is on record within the scope, and what is on the disk."""
        known = manifest.directories(scope)
        context = self._context
        snapshot = observed_scan(context.observer, self._repo.name, lambda: context.scan(self._repo, known, scope))
        if not scope.is_whole and (gone := gone_directories(snapshot, known)):
            known |= manifest.directories(Scope(trees=frozenset(gone)))  # what was below them is gone, too
        return known, snapshot

    def _check(self, generation: Generation, manifest: Manifest) -> set[str] | None:
        """Removes leftovers, probes the store, and compares its records with the manifest if there is a reason to.

        Returns None if there was no reason, else the ids of orphans: records that the manifest does not know. The
        reconcile claims them, or they are deleted.
        """
        collection = generation.collection
        if generation.checked and 0 < self._context.index.session == self._context.probed.get(collection):
            return None
        try:
            count = self._index.open(collection, collection_metadata(self._repo, generation))
            self._index.probe(collection)
        except LethalOperationError as error:
            raise CorruptStoreError(f"the store cannot be opened: {error}") from error
        recover(self._repo.name, collection, manifest, self._index)
        orphans: set[str] | None = None
        chunks = self._catalog.generation(generation.id).chunks
        if count != chunks or (count and not generation.checked):
            self._context.on_progress(Progress("check"))
            self._catalog.set_checked(generation, False)
            orphans = compare_records(self._repo.name, collection, manifest, self._index)
        self._context.probed[collection] = self._context.index.session
        return orphans

    def _reconcile(
        self,
        generation: Generation,
        manifest: Manifest,
        snapshot: Snapshot,
        known: Mapping[str, DirectoryRow | None],
        orphans: set[str],
        scope: Scope,
    ) -> tuple[ReconcileResult, Totals]:
        context = self._context
        stages = StageReport(context.observer, self._repo.name)

        def on_commit() -> None:
            stages.send()
            reconciler.report()

        pipeline = Pipeline(
            self._repo.name,
            generation.collection,
            manifest,
            self._index,
            stages,
            run=None if self._run is None else RunProgress(self._run, *self._before),
            orphans=orphans,
            guard=context.guard,
            on_quarantine=lambda path, reason: reconciler.quarantined(path, reason),
            on_commit=on_commit,
        )
        with Tree(self._repo.root, snapshot.identity) as tree:
            examiner = Examiner(
                self._repo.name,
                tree,
                context.max_file_size,
                context.allows_secrets,
                context.chunker,
                manifest.chunks,
                context.now_ns,
                stages,
            )
            reconciler = Reconciler(
                manifest,
                pipeline,
                examiner,
                on_progress=lambda progress: context.on_progress(self._since_the_beginning(progress)),
                should_stop=context.should_stop,
                commit_s=math.inf if scope.is_whole else COMMIT_S,
            )
            self._progress = lambda: self._since_the_beginning(reconciler.progress())
            dirty = reconciler.find_dirty(snapshot, known)
            put_first(dirty, context.now_ns())
            if self._run is not None:
                self._history.expect(self._run, self._before[0] + reconciler.total)
            try:
                outcome = reconciler.run(dirty, gone_directories(snapshot, known))
            except InterruptedSyncError:
                if not orphans:  # everything that was begun is finished, and nothing else is in the collection
                    self._catalog.set_checked(generation, True)
                context.on_stopped(self._result(generation, reconciler.result, pipeline.totals))
                raise
            finally:
                context.chunker.release()
                stages.send()
        return outcome, pipeline.totals

    def _since_the_beginning(self, progress: Progress) -> Progress:
        """Adds what the run had done before it was stopped and continued."""
        files, chunks = self._before
        return replace(
            progress,
            files_done=files + progress.files_done,
            files_total=files + progress.files_total,
            chunks_done=chunks + progress.chunks_done,
        )

    def _check_identity(self, snapshot: Snapshot, orphans: bool) -> None:
        if snapshot.identity == self._repo.identity:
            return
        empty = not snapshot.unchanged and not any(directory.files for directory in snapshot.changed)
        if empty and (orphans or any(each.files for each in self._catalog.generations(self._repo))):
            raise RootMissingError(
                f"{self._repo.root} is another directory than the one that was indexed, and it is empty: "
                "is a disk not mounted? Its index stays as it was."
            )
        self._catalog.set_identity(self._repo, snapshot.identity)

    def _on_wait(self, waiting: Waiting | None) -> None:
        """Called now and then while this thread waits for the store."""
        if waiting != self._waiting:
            if self._run is not None:
                self._history.note(self._run, waiting)
            self._waiting = waiting
        self._context.on_progress(replace(self._progress(), trouble=waiting.reason if waiting else ""))
        if waiting and self._context.should_stop():
            raise InterruptedSyncError(
                f"stopped, waiting: {waiting.reason}; what is stored stays, and the next sync continues from there"
            )

    def _result(self, generation: Generation, outcome: ReconcileResult, totals: Totals) -> SyncResult:
        generation = self._catalog.generation(generation.id)
        return SyncResult(
            repo=self._repo.name,
            root=self._repo.root,
            files=replace(outcome.counts(generation.files), plain=plain_files(Manifest(self._context.db, generation))),
            chunks=ChunkCounts(
                total=generation.chunks,
                added=totals.added,
                relabelled=totals.relabelled,
                deleted=totals.deleted,
                embedded=totals.embedded,
            ),
            bytes_read=outcome.bytes_read,
            duration_s=0.0,
            errors=tuple(outcome.errors),
        )


def put_first(dirty: list[Dirty], now_ns: int) -> None:
    """Moves the files that were saved last to the front: somebody may wait for them. The others keep their order."""
    dirty.sort(key=lambda file: min(0, now_ns - SAVED_NS - file.stat.mtime_ns))


def plain_files(manifest: Manifest) -> int:
    """The number of files that are cut as plain lines because the parser cannot handle them."""
    return sum(verdict.is_indexed for verdict in manifest.verdicts())


def collection_metadata(repo: Repo, generation: Generation) -> dict[str, str]:
    """The metadata of a collection, for other programs."""
    return {
        "reposyncd_repo": repo.name,
        "reposyncd_root": repo.root,
        "reposyncd_fingerprint": generation.fingerprint,
    }
