"""One sync of one repo: which generation, what a crash left, the reconcile, the switch, the history."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from reposyncd.errors import (
    CorruptStoreError,
    InterruptedSyncError,
    LethalOperationError,
    RootMissingError,
)
from reposyncd.model import ChunkCounts, DirectoryRow, Progress, SyncResult, Waiting
from reposyncd.ports import Chunker, VectorIndex
from reposyncd.store.catalog import Catalog, Generation, Repo
from reposyncd.store.database import Database
from reposyncd.store.history import History
from reposyncd.store.manifest import Manifest
from reposyncd.sync.compare import gone_directories
from reposyncd.sync.examine import Examiner
from reposyncd.sync.pipeline import Pipeline, Totals, compare, recover
from reposyncd.sync.reconcile import Outcome, Reconciler
from reposyncd.tree.read import Tree
from reposyncd.tree.scan import Snapshot

NANOSECONDS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Context:
    """What a sync works with. The caller holds the state lock."""

    db: Database
    index: VectorIndex
    chunker: Chunker
    fingerprint: str
    """of the chunker, the embedder and the form of the records; another one means another generation"""
    scan: Callable[[Repo, Mapping[str, DirectoryRow | None]], Snapshot]
    max_file_size: int
    """bytes"""
    now_ns: Callable[[], int]
    on_progress: Callable[[Progress], None]
    should_stop: Callable[[], bool]
    guard: Callable[[int], None] = lambda chunks: None
    """raises NoSpaceError if the disk has no room for that many more chunks"""


def sync_repo(context: Context, repo: Repo, run: int, started_ns: int, *, full: bool) -> SyncResult:
    """Makes the index of a repo true, and returns when it is. `run` is its row in the history.

    `full` trusts no stat, reads every file, and compares every id with the store.

    Raises RootMissingError for a root that is another directory than before, and empty: it is taken for an
    unmounted one, and nothing is deleted. Raises InterruptedSyncError and StoreError as `Reconciler` does, and
    CorruptStoreError for a store that fails its probe.
    """
    return _Run(context, repo, run).sync(started_ns, full)


def choose_generation(catalog: Catalog, repo: Repo, fingerprint: str) -> Generation:
    """The generation to be made true: one of this fingerprint, else a new one.

    The one that serves goes on serving until its successor is complete. The first serves from the start.
    """
    alive = [each for each in catalog.generations(repo) if each.state != "doomed"]
    serves = any(each.state == "serving" for each in alive)
    wanted = next((each for each in alive if each.fingerprint == fingerprint), None)
    for each in alive:
        if each.state == "building" and each != wanted:
            catalog.doom(each)
    return wanted or catalog.add_generation(repo, fingerprint, "building" if serves else "serving")


class _Run:
    """One sync under way."""

    def __init__(self, context: Context, repo: Repo, run: int) -> None:
        self._context = context
        self._repo = repo
        self._run = run
        self._index = context.index
        self._catalog = Catalog(context.db)
        self._history = History(context.db)
        self._waiting: Waiting | None = None
        self._progress: Callable[[], Progress] = lambda: Progress("scan")

    def sync(self, started_ns: int, full: bool) -> SyncResult:
        self._index.on_wait = self._tell_waiting
        generation = choose_generation(self._catalog, self._repo, self._context.fingerprint)
        self._context.on_progress(self._progress())
        manifest = Manifest(self._context.db, generation)
        found = self._check(generation, manifest, full)
        known = manifest.directories()
        snapshot = self._context.scan(self._repo, {} if full else known)
        self._check_identity(snapshot, bool(found))
        outcome, totals = self._reconcile(generation, manifest, snapshot, known, found, full)
        if found:
            self._index.delete(generation.collection, sorted(found)).result()
        self._catalog.set_checked(generation, True)
        if generation.state == "building":
            self._catalog.switch(self._repo, generation)
        for other in self._catalog.generations(self._repo):
            if other.state == "doomed":
                self._index.drop(other.collection)
                self._catalog.forget(other)
        return _result(self._context, self._repo, self._catalog.generation(generation.id), outcome, totals, started_ns)

    def _check(self, generation: Generation, manifest: Manifest, full: bool) -> set[str]:
        """Removes leftovers, probes the store, and compares its records with the manifest's if anything speaks for it.

        Returns the ids of records that nobody knows: to be claimed by the reconcile, else deleted.
        """
        collection = generation.collection
        try:
            count = self._index.open(collection, collection_metadata(self._repo, generation))
            self._index.probe(collection)
        except LethalOperationError as error:
            raise CorruptStoreError(f"the store cannot be opened: {error}") from error
        recover(self._repo.name, collection, manifest, self._index)
        generation = self._catalog.generation(generation.id)
        if count == generation.chunks and (count == 0 or (generation.checked and not full)):
            return set()
        self._context.on_progress(Progress("check"))
        self._catalog.set_checked(generation, False)
        return compare(self._repo.name, collection, manifest, self._index)

    def _reconcile(
        self,
        generation: Generation,
        manifest: Manifest,
        snapshot: Snapshot,
        known: Mapping[str, DirectoryRow | None],
        found: set[str],
        full: bool,
    ) -> tuple[Outcome, Totals]:
        context = self._context
        pipeline = Pipeline(
            self._repo.name,
            generation.collection,
            manifest,
            self._index,
            run=self._run,
            found=found,
            guard=context.guard,
            on_quarantine=lambda path, reason: reconciler.quarantined(path, reason),
            on_commit=lambda: reconciler.report(),
        )
        with Tree(self._repo.root, snapshot.identity) as tree:
            examiner = Examiner(
                self._repo.name, tree, context.max_file_size, context.chunker, manifest.chunks, context.now_ns
            )
            reconciler = Reconciler(
                manifest, pipeline, examiner, on_progress=context.on_progress, should_stop=context.should_stop
            )
            self._progress = reconciler.progress
            dirty = reconciler.find_dirty(snapshot, known, trust_stat=not full)
            self._history.expect(self._run, reconciler.total)
            outcome = reconciler.run(dirty, gone_directories(snapshot, known))
        return outcome, pipeline.totals

    def _check_identity(self, snapshot: Snapshot, found: bool) -> None:
        if snapshot.identity == self._repo.identity:
            return
        empty = not snapshot.unchanged and not any(directory.files for directory in snapshot.changed)
        if empty and (found or any(each.files for each in self._catalog.generations(self._repo))):
            raise RootMissingError(
                f"{self._repo.root} is another directory than the one that was indexed, and there is nothing in it: "
                "is a disk not mounted? Its index is kept as it was."
            )
        self._catalog.set_identity(self._repo, snapshot.identity)

    def _tell_waiting(self, waiting: Waiting | None) -> None:
        """Called now and then while the store is waited for."""
        if waiting != self._waiting:
            self._history.note(self._run, waiting)
            self._waiting = waiting
        self._context.on_progress(replace(self._progress(), trouble=waiting.reason if waiting else ""))
        if waiting and self._context.should_stop():
            raise InterruptedSyncError(
                f"stopped, waiting: {waiting.reason}; what is stored stays, and the next sync goes on from there"
            )


def collection_metadata(repo: Repo, generation: Generation) -> dict[str, str]:
    """What a collection says of itself to other programs."""
    return {
        "reposyncd_repo": repo.name,
        "reposyncd_root": repo.root,
        "reposyncd_fingerprint": generation.fingerprint,
    }


def _result(
    context: Context,
    repo: Repo,
    generation: Generation,
    outcome: Outcome,
    totals: Totals,
    started_ns: int,
) -> SyncResult:
    return SyncResult(
        repo=repo.name,
        root=repo.root,
        files=outcome.counts(generation.files),
        chunks=ChunkCounts(
            total=generation.chunks,
            added=totals.added,
            relabelled=totals.relabelled,
            deleted=totals.deleted,
            embedded=totals.embedded,
        ),
        bytes_read=outcome.bytes_read,
        duration_s=(context.now_ns() - started_ns) / NANOSECONDS,
        errors=tuple(outcome.errors),
    )
