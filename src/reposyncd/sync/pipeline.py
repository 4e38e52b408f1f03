"""The commit protocol: collects file plans into batches, and commits each batch to two stores without a transaction for
both.

1. One transaction records the ids that will be added as pending, and those that will be relabelled as relabelled.
2. The index applies the batch.
3. One transaction replaces the rows of files and chunks, removes those intents, and dooms leftovers.
4. The index deletes the doomed records. Then their intents are removed.

Whenever the process dies, `recover` makes the collection match the manifest again. For a moment, a reader may see the
old and the new chunks of a file together, but it never finds the file missing.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from reposyncd.errors import (
    LethalOperationError,
    LethalTextError,
    PermanentStoreError,
    StoreError,
    SuspectStoreError,
)
from reposyncd.model import Applied, Batch, ChunkRow, FileRow, NewChunk, Skip
from reposyncd.ports import Deferred, Stage, VectorIndex, label
from reposyncd.store.manifest.commits import Commit, FileCommit, RunProgress
from reposyncd.store.manifest.manifest import Manifest
from reposyncd.sync.plan import FilePlan, chunk_id, text_digest, with_sources
from reposyncd.sync.stages import StageReport

BATCH_CHUNKS = 500
"""How many chunks change in one batch: about a second of work, which may be lost, or which others may have to wait for.
1000 are not faster; with 250, a first index takes a quarter longer."""

BATCH_FILES = 2000
"""How many files one batch has, if they change few chunks."""

BATCHES_UNDER_WAY = 2
"""One batch is stored, one is embedded, and the next is collected. With more, urgent files would wait longer, and a
fault would cost more."""

QUARANTINED_AT_MOST = 20
"""How many files one run may quarantine. With more of them, the files would probably not be the cause."""


@dataclass(frozen=True, slots=True)
class Totals:
    """What was committed."""

    files: int = 0
    added: int = 0
    relabelled: int = 0
    deleted: int = 0
    embedded: int = 0

    @property
    def chunks(self) -> int:
        """Chunks that were added, relabelled or deleted."""
        return self.added + self.relabelled + self.deleted


@dataclass(slots=True)
class _Filling:
    """The batch that is being collected."""

    plans: list[FilePlan] = field(default_factory=list)
    touched: list[FileRow] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    gone_chunks: list[tuple[str, str]] = field(default_factory=list)
    chunks: int = 0

    @property
    def files(self) -> int:
        return len(self.plans) + len(self.touched) + len(self.gone)

    def is_full(self) -> bool:
        return self.chunks >= BATCH_CHUNKS or self.files >= BATCH_FILES

    def halves(self) -> tuple[_Filling, _Filling]:
        """Two batches that have the same effect together."""
        middle = len(self.plans) // 2
        return replace(self, plans=self.plans[:middle]), _Filling(plans=self.plans[middle:])


class _Begun(NamedTuple):
    """A batch that is under way."""

    filling: _Filling
    added: list[NewChunk]
    relabelled: tuple[ChunkRow, ...]
    applied: Deferred[Applied] | None
    """None if nothing is added or relabelled"""


class Pipeline:
    """Applies plans to one collection, batch by batch, while the caller makes the next plans.

    Batches are begun, applied and committed in the order of the calls. A plan is committed, and durable, when `drain`
    has returned, or earlier. Any method may raise StoreError. What was committed before that stays, and `recover`
    cleans up the rest.

    If the store refuses a batch, or the batch crashes the index process, it is divided until the files that cause this
    are found. These files are quarantined: recorded with their digest, and reported to `on_quarantine` (path, reason).
    `run` is the row of the history to update with each commit, and the progress that it starts with. The durations of
    stages are added to `stages`; the caller sends it.

    `orphans` are ids of stored records that the manifest does not know. A chunk with such an id takes the vector of the
    orphan, and the id is removed from the set. `guard` is called before a batch with the number of its new chunks, and
    raises NoSpaceError.
    """

    def __init__(
        self,
        repo: str,
        collection: str,
        manifest: Manifest,
        index: VectorIndex,
        stages: StageReport,
        *,
        run: RunProgress | None = None,
        orphans: set[str] | None = None,
        guard: Callable[[int], None] = lambda chunks: None,
        on_quarantine: Callable[[str, str], None] = lambda path, reason: None,
        on_commit: Callable[[], None] = lambda: None,
    ) -> None:
        self._repo = repo
        self._collection = collection
        self._manifest = manifest
        self._index = index
        self._stages = stages
        self._run = run
        self._orphans = orphans if orphans is not None else set()
        self._guard = guard
        self._on_quarantine = on_quarantine
        self._on_commit = on_commit
        self._quarantined = 0
        self._filling = _Filling()
        self._under_way: deque[Callable[[], None]] = deque()
        self.totals = Totals()

    def put(self, plan: FilePlan) -> None:
        """Makes the records of the file what the plan says."""
        self._filling.plans.append(plan)
        self._filled(len(plan.added) + len(plan.relabelled) + len(plan.doomed))

    def touch(self, row: FileRow) -> None:
        """Updates the row of a file whose content has not changed."""
        self._filling.touched.append(row)
        self._filled(0)

    def remove(self, path: str, ids: Sequence[str]) -> None:
        """Removes the file from the index; `ids` are its records."""
        self._filling.gone.append(path)
        self._filling.gone_chunks += [(id, path) for id in ids]
        self._filled(len(ids))

    def drain(self) -> None:
        """Returns when all plans so far are committed and the leftovers are deleted."""
        self._send()
        while self._under_way:
            self._under_way.popleft()()

    def finish_begun(self) -> None:
        """Like `drain`, but only for the batches that were begun, in order to stop soon. The batch that is being
        collected is dropped, except for what needs no index. If it is the first batch, it is committed too: so a sync
        makes progress even if it is always stopped early, or if one file took the whole time to turn out unparseable.
        """
        is_cheap = not any(plan.row.verdict for plan in self._filling.plans)
        if is_cheap and (self.totals.files or self._under_way):
            self._filling = _Filling(touched=self._filling.touched)
        self.drain()

    def _filled(self, chunks: int) -> None:
        self._filling.chunks += chunks
        if self._filling.is_full():
            self._send()

    def _send(self) -> None:
        filling, self._filling = self._filling, _Filling()
        if not filling.files:
            return
        # Waits before it sends, not after it: after a fault, what was sent and not committed is embedded again.
        while len(self._under_way) >= BATCHES_UNDER_WAY:
            self._under_way.popleft()()
        begun = self._begin(filling)
        self._under_way.append(lambda: self._finish(begun))

    def _begin(self, filling: _Filling) -> _Begun:
        """Steps 1 and 2."""
        added = [chunk for plan in filling.plans for chunk in plan.added]
        relabelled = tuple(row for plan in filling.plans for row in plan.relabelled)
        self._guard(len(added))
        if not (added or relabelled):
            return _Begun(filling, added, relabelled, None)
        stored = self._manifest.sources({chunk.row.digest for chunk in added})
        self._manifest.begin([chunk.row for chunk in added], relabelled)
        batch = Batch(self._repo, with_sources(added, stored, self._orphans), relabelled)
        return _Begun(filling, added, relabelled, self._index.apply(self._collection, batch))

    def _finish(self, begun: _Begun) -> None:
        """Step 3, after step 2 is done, and the start of step 4."""
        try:
            applied = begun.applied.result() if begun.applied else Applied()
        except (LethalOperationError, PermanentStoreError) as error:
            self._divide(begun, error)
            return
        self._stages.add(Stage.EMBED, applied.embed_s, applied.embedded)
        self._stages.add(Stage.STORE, applied.store_s, len(begun.added) + len(begun.relabelled))
        filling = begun.filling
        doomed = [(id, plan.row.path) for plan in filling.plans for id in plan.doomed] + filling.gone_chunks
        self._commit(
            Commit(
                files=[FileCommit(plan.row, plan.chunks) for plan in filling.plans],
                touched=filling.touched,
                gone=filling.gone,
                done=[chunk.row.id for chunk in begun.added] + [row.id for row in begun.relabelled],
                doomed=doomed,
            ),
            replace(
                self.totals,
                files=self.totals.files + filling.files,
                added=self.totals.added + len(begun.added),
                relabelled=self.totals.relabelled + len(begun.relabelled),
                deleted=self.totals.deleted + len(doomed),
                embedded=self.totals.embedded + applied.embedded,
            ),
        )
        self._orphans.difference_update(chunk.row.id for chunk in begun.added)

    def _divide(self, begun: _Begun, error: StoreError) -> None:
        """Applies the batch in two halves. If it has only one file, quarantines that file."""
        if len(begun.filling.plans) > 1:
            for half in begun.filling.halves():
                if half.files:
                    self._finish(self._begin(half))
            return
        if self._quarantined == QUARANTINED_AT_MOST:
            raise error
        self._assert_the_store_works()
        self._quarantined += 1
        [plan] = begun.filling.plans
        unwanted = [row.id for row in plan.chunks] + list(plan.doomed)
        row = plan.row._replace(skip=Skip.QUARANTINED, verdict=str(error))
        doomed = [(id, row.path) for id in unwanted] + begun.filling.gone_chunks
        self._commit(
            Commit(files=[FileCommit(row, ())], touched=begun.filling.touched, gone=begun.filling.gone, doomed=doomed),
            replace(
                self.totals,
                files=self.totals.files + begun.filling.files,
                deleted=self.totals.deleted + len(unwanted) - len(plan.added) + len(begun.filling.gone_chunks),
            ),
        )
        self._on_quarantine(row.path, f"quarantined until it changes: {error}")

    def _assert_the_store_works(self) -> None:
        """Stores and deletes a record. If this raises, the store is to blame and not a file; CorruptStoreError if the
        store has to be inspected."""
        digest = text_digest(_CANARY)
        row = ChunkRow(chunk_id(self._repo, "", digest, 0), "", 1, 1, "", "text", digest)
        self._manifest.begin([row], ())
        try:
            self._index.apply(self._collection, Batch(self._repo, (NewChunk(row, _CANARY),), ())).result()
            self._index.delete(self._collection, [row.id]).result()
        except LethalTextError:
            raise
        except LethalOperationError as error:
            raise SuspectStoreError(f"nothing can be stored: {error}") from error
        self._manifest.forget([row.id])

    def _commit(self, commit: Commit, totals: Totals) -> None:
        if self._run is not None:
            done = RunProgress(self._run.id, self._run.files_done + totals.files, self._run.chunks_done + totals.added)
            commit = replace(commit, run=done)
        began = time.perf_counter()
        self._manifest.commit(commit)
        self._stages.add(Stage.COMMIT, time.perf_counter() - began, totals.chunks - self.totals.chunks)
        self.totals = totals
        if commit.doomed:
            ids = [id for id, _ in commit.doomed]
            deleted = self._index.delete(self._collection, ids)
            self._under_way.append(lambda: self._forget(ids, deleted))
        self._on_commit()

    def _forget(self, ids: Sequence[str], deleted: Deferred[None]) -> None:
        deleted.result()
        self._manifest.forget(ids)


_CANARY = "reposyncd asks itself whether the store works\n"
"""The text of the record that tests the store."""


def recover(repo: str, collection: str, manifest: Manifest, index: VectorIndex) -> None:
    """Undoes or finishes what a crash has interrupted: usually nothing.

    Deletes pending and doomed records, and gives relabelled ones the metadata of their rows again. Idempotent.
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


def compare_records(repo: str, collection: str, manifest: Manifest, index: VectorIndex) -> set[str]:
    """Compares the collection's ids and metadata with the manifest, when somebody else may have written to it.

    Records with other metadata get the metadata of their rows again. Files with missing records are forgotten, so that
    the reconcile that must follow stores them again. Returns the ids of orphans: records that the manifest does not
    know. That reconcile claims them, or they are deleted.
    """
    found = index.labels(collection)
    invalidated: set[str] = set()
    relabelled: list[ChunkRow] = []
    for row in manifest.all_chunks():
        stored = found.pop(row.id, None)
        if stored is None:
            invalidated.add(row.path)
        elif stored != label(row.metadata(repo)):
            relabelled.append(row)
    if relabelled:
        manifest.begin((), relabelled)
        recover(repo, collection, manifest, index)
    orphans = set(found)
    for path in invalidated:
        orphans.update(row.id for row in manifest.chunks(path))
    manifest.invalidate(sorted(invalidated))
    return orphans
