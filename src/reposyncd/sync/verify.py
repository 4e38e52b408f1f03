"""Manifest, collection and tree against each other, trusting none of them."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from reposyncd.errors import FileProblem, InterruptedSyncError, UnstableError, VanishedError
from reposyncd.model import ChunkRow, FileError, FileRow, Progress, Record
from reposyncd.ports import VectorIndex
from reposyncd.store.catalog import Generation, Repo
from reposyncd.store.manifest import Manifest
from reposyncd.sync.plan import is_unchanged, text_digest
from reposyncd.tree.read import Tree
from reposyncd.tree.scan import Snapshot

_SLICE = 1000
"""Records that are read at once."""

_VECTORS = 2000
"""Vectors of a repo that are computed again, at most; of a small one all are."""

_NEAR = 0.999
"""Cosine of two vectors of one text: they differ by rounding."""

EXAMPLES = 20
"""Problems that are named; all are counted."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not as it should be."""

    kind: str
    """"missing" (a record that is on record is not in the store), "unknown" (one is in the store and not on record),
    "altered" (its text or metadata are others), "vector" (its vector is not that of its text), or "stale" (a file's
    content is not what was indexed, though its size and times are) """
    path: str
    id: str
    """of the record; "" for a file"""


@dataclass(slots=True)
class Verification:
    """What was found of one repo. `problems` holds the first ones; `counts` all, by kind."""

    repo: str
    root: str
    records: int = 0
    files: int = 0
    vectors: int = 0
    """vectors that were computed again"""
    pending: int = 0
    """files that were changed, made or deleted since the last sync, or are being changed: no problem, the next sync
    sees them"""
    counts: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    errors: list[FileError] = field(default_factory=list)
    repaired: bool = False

    def add(self, kind: str, path: str, id: str = "") -> None:
        """One more problem."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        if len(self.problems) < EXAMPLES:
            self.problems.append(Problem(kind, path, id))

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Verifier:
    """Verifies one generation. Writes nothing. The caller holds the state lock, and no intent is open."""

    repo: Repo
    generation: Generation
    manifest: Manifest
    index: VectorIndex
    snapshot: Snapshot
    """of the whole tree: nothing in it is known as unchanged"""
    max_file_size: int
    """bytes"""
    on_progress: Callable[[Progress], None]
    should_stop: Callable[[], bool]
    random: random.Random

    def verify(self) -> tuple[Verification, list[str]]:
        """What is wrong, and the ids of the records whose content is."""
        found = Verification(self.repo.name, self.repo.root)
        bad = self._records(found)
        self._tree(found)
        return found, bad

    def _records(self, found: Verification) -> list[str]:
        rows = {row.id: row for row in self.manifest.all_chunks()}
        collection = self.generation.collection
        stored = self.index.ids(collection)
        found.records = len(rows)
        for id in sorted(rows.keys() - stored):
            found.add("missing", rows[id].path, id)
        for id in sorted(stored - rows.keys()):
            found.add("unknown", "", id)
        common = sorted(rows.keys() & stored)
        sample = set(self.random.sample(common, min(len(common), _VECTORS)))
        bad: list[str] = []
        for start in range(0, len(common), _SLICE):
            self._advance(start, len(common))
            records = self.index.records(collection, common[start : start + _SLICE])
            sound = [record for record in records if self._is_sound(record, rows)]
            bad += self._note(found, rows, "altered", {r.id for r in records} - {r.id for r in sound})
            sampled = [record for record in sound if record.id in sample]
            found.vectors += len(sampled)
            wrong = self._wrong_vectors(sampled)
            bad += self._note(found, rows, "vector", wrong)
        return bad

    def _is_sound(self, record: Record, rows: Mapping[str, ChunkRow]) -> bool:
        row = rows[record.id]
        return record.metadata == row.metadata(self.repo.name) and text_digest(record.text or "") == row.digest

    def _wrong_vectors(self, records: list[Record]) -> set[str]:
        vectors = self.index.embed([record.text for record in records])
        return {
            record.id
            for record, vector in zip(records, vectors, strict=True)
            if not _cosine(record.vector, vector) > _NEAR  # so NaN is wrong too
        }

    def _note(self, found: Verification, rows: Mapping[str, ChunkRow], kind: str, ids: set[str]) -> list[str]:
        for id in sorted(ids):
            found.add(kind, rows[id].path, id)
        return sorted(ids)

    def _tree(self, found: Verification) -> None:
        found.errors += self.snapshot.unreadable
        seen: set[str] = set()
        with Tree(self.repo.root, self.snapshot.identity) as tree:
            for directory in self.snapshot.changed:
                known = self.manifest.files(directory.path)
                seen.add(directory.path)
                for path, _ in directory.files:
                    self._advance(0, 0)
                    found.files += 1
                    self._file(tree, path, known.pop(path, None), found)
                found.pending += len(known)
        unreadable = {error.path for error in self.snapshot.unreadable}
        for path in self.manifest.directories():
            if path not in seen and not unreadable:
                found.pending += len(self.manifest.files(path))

    def _file(self, tree: Tree, path: str, row: FileRow | None, found: Verification) -> None:
        if row is None:
            found.pending += 1
            return
        try:
            raw = tree.read(path, self.max_file_size)
        except VanishedError:
            return
        except UnstableError:
            found.pending += 1
            return
        except FileProblem as problem:
            found.errors.append(FileError(path, str(problem)))
            return
        if raw.digest == row.digest:
            return
        # By the stat of what was read: since the tree was listed, the file may have been saved.
        if is_unchanged(row, raw.stat):
            found.add("stale", path)
        else:
            found.pending += 1

    def _advance(self, done: int, total: int) -> None:
        if self.should_stop():
            raise InterruptedSyncError("stopped; nothing was changed")
        self.on_progress(Progress("verify", done, total))


def _cosine(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Of the angle between two vectors; 0 if they have not the same length."""
    if len(a) != len(b):
        return 0.0
    norm = math.sqrt(math.fsum(x * x for x in a) * math.fsum(x * x for x in b))
    return math.fsum(x * y for x, y in zip(a, b, strict=True)) / norm if norm else float(a == b)
