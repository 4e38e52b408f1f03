"""One sync of one repo: which generation, what a crash left, the reconcile, the switch, the history."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from reposyncd.errors import InterruptedSyncError, RootMissingError
from reposyncd.model import ChunkCounts, DirectoryRow, Progress, SyncResult
from reposyncd.ports import Chunker, VectorIndex
from reposyncd.store.catalog import Catalog, Generation, Repo
from reposyncd.store.database import Database
from reposyncd.store.history import History
from reposyncd.store.manifest import Manifest
from reposyncd.sync.compare import gone_directories
from reposyncd.sync.examine import Examiner
from reposyncd.sync.pipeline import Pipeline, Totals, compare_ids, recover
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


def sync_repo(context: Context, repo: Repo, *, full: bool) -> SyncResult:
    """Makes the index of a repo true, and returns when it is.

    `full` trusts no stat, reads every file, and compares every id with the store.

    Raises RootMissingError for a root that is another directory than before, and empty: it is taken for an
    unmounted one, and nothing is deleted. Raises InterruptedSyncError and StoreError as `Reconciler` does.
    """
    catalog, history = Catalog(context.db), History(context.db)
    started_ns = context.now_ns()
    generation = choose_generation(catalog, repo, context.fingerprint)
    run = history.start(repo, "full" if full else "sync", started_ns)
    try:
        result = _reconcile(context, catalog, history, repo, generation, run, started_ns, full)
    except BaseException as error:
        stopped = isinstance(error, InterruptedSyncError | KeyboardInterrupt)
        history.finish(run, context.now_ns(), "interrupted" if stopped else "failed", error=str(error))
        raise
    history.finish(run, context.now_ns(), "done", result)
    return result


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


def _reconcile(
    context: Context,
    catalog: Catalog,
    history: History,
    repo: Repo,
    generation: Generation,
    run: int,
    started_ns: int,
    full: bool,
) -> SyncResult:
    manifest = Manifest(context.db, generation)
    index, collection = context.index, generation.collection
    context.on_progress(Progress("scan", 0, 0, 0))
    count = index.open(collection, collection_metadata(repo, generation))
    recover(repo.name, collection, manifest, index)
    if full or count != catalog.generation(generation.id).chunks:
        compare_ids(collection, manifest, index)
        recover(repo.name, collection, manifest, index)
    known = manifest.directories()
    snapshot = context.scan(repo, {} if full else known)
    _check_identity(catalog, repo, snapshot)

    def on_commit(totals: Totals) -> None:
        history.advance(run, reconciler.done)

    pipeline = Pipeline(repo.name, collection, manifest, index, on_commit)
    with Tree(repo.root, snapshot.identity) as tree:
        examiner = Examiner(repo.name, tree, context.max_file_size, context.chunker, manifest.chunks, context.now_ns)
        reconciler = Reconciler(
            manifest,
            pipeline,
            examiner,
            on_progress=context.on_progress,
            should_stop=context.should_stop,
        )
        dirty = reconciler.find_dirty(snapshot, known, trust_stat=not full)
        history.expect(run, reconciler.total)
        outcome = reconciler.run(dirty, gone_directories(snapshot, known))
    if generation.state == "building":
        catalog.switch(repo, generation)
    for other in catalog.generations(repo):
        if other.state == "doomed":
            index.drop(other.collection)
            catalog.forget(other)
    return _result(context, repo, catalog.generation(generation.id), outcome, pipeline.totals, started_ns)


def collection_metadata(repo: Repo, generation: Generation) -> dict[str, str]:
    """What a collection says of itself to other programs."""
    return {
        "reposyncd_repo": repo.name,
        "reposyncd_root": repo.root,
        "reposyncd_fingerprint": generation.fingerprint,
    }


def _check_identity(catalog: Catalog, repo: Repo, snapshot: Snapshot) -> None:
    if snapshot.identity == repo.identity:
        return
    empty = not snapshot.unchanged and not any(directory.files for directory in snapshot.changed)
    if empty and any(each.files for each in catalog.generations(repo)):
        raise RootMissingError(
            f"{repo.root} is another directory than the one that was indexed, and there is nothing in it: is a "
            "disk not mounted? Its index is kept as it was."
        )
    catalog.set_identity(repo, snapshot.identity)


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
