"""The commit protocol: file plans become batches, each batch one commit over two stores that share none.

1. One transaction: the ids about to be added are recorded as pending, those to be relabelled as such.
2. The index: the batch is applied.
3. One transaction: the files' rows and chunks are replaced, those intents end, leftovers are doomed.
4. The index: the doomed are deleted; then their intents end.

Whatever moment the process dies at, `recover` brings the collection back to what the manifest says. A reader may
see a file's old and new chunks together for a moment, and never sees a file missing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from reposyncd.model import Applied, Batch, FileRow
from reposyncd.ports import Outcome, VectorIndex
from reposyncd.store.manifest import Commit, FileCommit, Manifest
from reposyncd.sync.plan import FilePlan, with_sources

BATCH_CHUNKS = 1000
"""Chunks that change in one batch: the fastest call of Chroma's, and about two seconds of work to lose."""

BATCH_FILES = 2000
"""Files in one batch that changes few chunks."""

BATCHES_UNDER_WAY = 3
"""One being stored, one being embedded, one on its way: more would only hold memory."""


@dataclass(frozen=True, slots=True)
class Totals:
    """What was committed."""

    added: int = 0
    relabelled: int = 0
    deleted: int = 0
    embedded: int = 0


@dataclass(slots=True)
class _Filling:
    """The batch that is being collected."""

    plans: list[FilePlan] = field(default_factory=list)
    touched: list[FileRow] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    gone_chunks: list[tuple[str, str]] = field(default_factory=list)
    chunks: int = 0

    def is_full(self) -> bool:
        files = len(self.plans) + len(self.touched) + len(self.gone)
        return self.chunks >= BATCH_CHUNKS or files >= BATCH_FILES


class Pipeline:
    """Applies plans to one collection, batch by batch, while the caller makes the next plans.

    Batches are begun, applied and committed in the order of the calls. A plan is committed, and durable, at the
    latest when `drain` has returned. Any method may raise a StoreError: what was committed by then stays, and
    `recover` cleans up the rest.
    """

    def __init__(
        self,
        repo: str,
        collection: str,
        manifest: Manifest,
        index: VectorIndex,
        on_commit: Callable[[Totals], None] = lambda totals: None,
    ) -> None:
        self._repo = repo
        self._collection = collection
        self._manifest = manifest
        self._index = index
        self._on_commit = on_commit
        self._filling = _Filling()
        self._under_way: deque[Callable[[], None]] = deque()
        self.totals = Totals()

    def put(self, plan: FilePlan) -> None:
        """The file's records become what the plan says."""
        self._filling.plans.append(plan)
        self._filled(len(plan.added) + len(plan.relabelled) + len(plan.doomed))

    def touch(self, row: FileRow) -> None:
        """The file's content is what it was; only its stat is new."""
        self._filling.touched.append(row)
        self._filled(0)

    def remove(self, path: str, ids: Sequence[str]) -> None:
        """The file is no longer to be in the index; `ids` are its records."""
        self._filling.gone.append(path)
        self._filling.gone_chunks += [(id, path) for id in ids]
        self._filled(len(ids))

    def drain(self) -> None:
        """Returns when everything handed over so far is committed and the leftovers are deleted."""
        self._send()
        while self._under_way:
            self._under_way.popleft()()

    def finish_begun(self) -> None:
        """As `drain`, for the batches that were begun; one that is still filling is given up."""
        self._filling = _Filling()
        self.drain()

    def _filled(self, chunks: int) -> None:
        self._filling.chunks += chunks
        if self._filling.is_full():
            self._send()

    def _send(self) -> None:
        filling, self._filling = self._filling, _Filling()
        added = [chunk for plan in filling.plans for chunk in plan.added]
        relabelled = tuple(row for plan in filling.plans for row in plan.relabelled)
        doomed = [(id, plan.row.path) for plan in filling.plans for id in plan.doomed] + filling.gone_chunks
        commit = Commit(
            files=[FileCommit(plan.row, plan.chunks) for plan in filling.plans],
            touched=filling.touched,
            gone=filling.gone,
            done=[chunk.row.id for chunk in added] + [row.id for row in relabelled],
            doomed=doomed,
        )
        if not (commit.files or commit.touched or commit.gone):
            return
        applied: Outcome[Applied] | None = None
        if added or relabelled:
            stored = self._manifest.sources({chunk.row.digest for chunk in added})
            self._manifest.begin([chunk.row for chunk in added], relabelled)
            batch = Batch(self._repo, with_sources(added, stored), relabelled)
            applied = self._index.apply(self._collection, batch)
        self._under_way.append(lambda: self._commit(commit, applied, len(added), len(relabelled)))
        while len(self._under_way) > BATCHES_UNDER_WAY:
            self._under_way.popleft()()

    def _commit(self, commit: Commit, applied: Outcome[Applied] | None, added: int, relabelled: int) -> None:
        embedded = applied.result().embedded if applied else 0
        self._manifest.commit(commit)
        if commit.doomed:
            ids = [id for id, _ in commit.doomed]
            deleted = self._index.delete(self._collection, ids)
            self._under_way.append(lambda: self._forget(ids, deleted))
        self.totals = replace(
            self.totals,
            added=self.totals.added + added,
            relabelled=self.totals.relabelled + relabelled,
            deleted=self.totals.deleted + len(commit.doomed),
            embedded=self.totals.embedded + embedded,
        )
        self._on_commit(self.totals)

    def _forget(self, ids: Sequence[str], deleted: Outcome[None]) -> None:
        deleted.result()
        self._manifest.forget(ids)


def recover(repo: str, collection: str, manifest: Manifest, index: VectorIndex) -> None:
    """Undoes or finishes what a crash left half done; nothing to do is the usual case.

    Pending and doomed records are deleted, relabelled ones get the metadata of their rows again. Idempotent.
    """
    intents = manifest.intents()
    if not intents:
        return
    rows = {row.id: row for path in sorted({path for _, path in intents.relabelled}) for row in manifest.chunks(path)}
    ids = [id for id, _ in intents.relabelled]
    index.apply(collection, Batch(repo, (), tuple(rows[id] for id in ids if id in rows))).result()
    leftovers = [*intents.pending, *intents.doomed]
    if leftovers:
        index.delete(collection, leftovers).result()
    manifest.forget([*leftovers, *ids])


def compare_ids(collection: str, manifest: Manifest, index: VectorIndex) -> None:
    """Makes the collection's ids those of the manifest, whatever was done to it behind our back.

    Records that the manifest does not know are deleted; files of which a record is missing are forgotten, so
    that the reconcile that must follow stores them again.
    """
    live = {row.id: row.path for row in manifest.all_chunks()}
    stored = index.ids(collection)
    if unknown := stored - live.keys():
        index.delete(collection, sorted(unknown)).result()
    if missing := live.keys() - stored:
        manifest.distrust(sorted({live[id] for id in missing}))
