"""Compares manifest, collection and tree with each other, and trusts none of them.

A comparison is made in steps. Others may write between two steps, so each step reads itself what it compares.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from reposyncd.errors import FileProblem, InterruptedSyncError, UnstableError, VanishedError
from reposyncd.model import ChunkRow, FileError, FileRow, Progress, Record
from reposyncd.ports import VectorIndex
from reposyncd.store.manifest.catalog import Generation, Repo
from reposyncd.store.manifest.manifest import Manifest
from reposyncd.sync.plan import is_unchanged, text_digest
from reposyncd.tree.read import Tree
from reposyncd.tree.scan import Snapshot

_SLICE = 500
"""How many records one step reads: some tenths of a second, including the vectors that are computed again."""

_FILES = 100
"""How many files of one directory one step reads; most have some kilobytes."""

Steps = Generator[None, None, "Verification"]
"""A comparison in steps. Its return value is what was found."""


def ended(steps: Steps) -> Verification:
    """Runs all steps, and returns what was found."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: Verification = end.value
            return found


_VECTORS = 2000
"""How many vectors of a repository are computed again at most."""

_NEAR = 0.999
"""The smallest cosine of two vectors of the same text. They differ by rounding."""

EXAMPLES = 20
"""How many problems are listed. All are counted."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A difference that should not be there."""

    kind: str
    """"missing" (in the manifest and not in the store), "unknown" (in the store and not in the manifest), "altered"
    (the text or the metadata differ), "vector" (the vector is not that of the text), or "stale" (a file's content
    differs from what was indexed, although its size and times do not) """
    path: str
    id: str
    """id of the record; "" for a file"""


@dataclass(slots=True)
class Verification:
    """What was found in one repository. `problems` has the first problems; `counts` counts all, by kind."""

    repo: str
    root: str
    records: int = 0
    files: int = 0
    vectors: int = 0
    """vectors that were computed again"""
    pending: int = 0
    """files that were changed, created or deleted since the last sync, or are being changed; not a problem, since the
    next sync finds them"""
    counts: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    errors: list[FileError] = field(default_factory=list)
    repaired: bool = False
    bad: set[str] = field(default_factory=set)
    """ids of the records whose content is wrong"""

    def add(self, kind: str, path: str, id: str = "") -> None:
        """Adds one more problem."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        if len(self.problems) < EXAMPLES:
            self.problems.append(Problem(kind, path, id))

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        found = asdict(self)
        del found["bad"]  # may have thousands of ids, and is of no use to users
        return found


@dataclass(frozen=True, slots=True)
class Verifier:
    """Verifies one generation. Writes nothing. The caller holds the state lock, and no intent is open in any step."""

    repo: Repo
    generation: Generation
    manifest: Manifest
    index: VectorIndex
    scan: Callable[[], Snapshot]
    """lists the whole tree, and treats nothing as unchanged"""
    max_file_size: int
    """bytes"""
    now_ns: Callable[[], int]
    on_progress: Callable[[Progress], None]
    should_stop: Callable[[], bool]
    random: random.Random
    embeds: bool = True
    """whether the index has the embedder of this generation: vectors of different models are not compared"""

    def verify(self, found: Verification) -> Iterator[None]:
        """Adds what is wrong to `found`, step by step. Between two steps, anything may be written, as long as this
        generation is not replaced by another one."""
        yield from self._records(found)
        yield from self._tree(found)

    def _records(self, found: Verification) -> Iterator[None]:
        rows = {row.id: row.path for row in self.manifest.all_chunks()}
        collection = self.generation.collection
        stored = self.index.ids(collection)
        found.records = len(rows)
        for id in sorted(rows.keys() - stored):
            found.add("missing", rows[id], id)
        for id in sorted(stored - rows.keys()):
            found.add("unknown", "", id)
        common = sorted(rows.keys() & stored, key=lambda id: (rows[id], id))  # file by file
        del stored
        sample = set(self.random.sample(common, min(len(common), _VECTORS if self.embeds else 0)))
        for start in range(0, len(common), _SLICE):
            yield
            self._advance(start, len(common))
            ids = common[start : start + _SLICE]
            now = self._rows_of({rows[id] for id in ids})
            records = [record for record in self.index.records(collection, ids) if record.id in now]
            sound = [record for record in records if self._is_sound(record, now)]
            self._note(found, now, "altered", {r.id for r in records} - {r.id for r in sound})
            sampled = [record for record in sound if record.id in sample]
            found.vectors += len(sampled)
            self._note(found, now, "vector", self._wrong_vectors(sampled))

    def _rows_of(self, paths: Iterable[str]) -> dict[str, ChunkRow]:
        """What the manifest has for these files now."""
        return {row.id: row for path in paths for row in self.manifest.chunks(path)}

    def _is_sound(self, record: Record, rows: Mapping[str, ChunkRow]) -> bool:
        row = rows[record.id]
        return record.metadata == row.metadata(self.repo.name) and text_digest(record.text or "") == row.digest

    def _wrong_vectors(self, records: list[Record]) -> set[str]:
        vectors = self.index.embed([record.text for record in records])
        return {
            record.id
            for record, vector in zip(records, vectors, strict=True)
            if not _cosine(record.vector, vector) > _NEAR  # written so that NaN counts as wrong
        }

    def _note(self, found: Verification, rows: Mapping[str, ChunkRow], kind: str, ids: set[str]) -> None:
        found.bad |= ids
        for id in sorted(ids):
            found.add(kind, rows[id].path, id)

    def _tree(self, found: Verification) -> Iterator[None]:
        yield
        began_ns = self.now_ns()
        snapshot = self.scan()
        found.errors += snapshot.unreadable
        seen: set[str] = set()
        with Tree(self.repo.root, snapshot.identity) as tree:
            for directory in snapshot.changed:
                seen.add(directory.path)
                paths = [path for path, _ in directory.files]
                for start in range(0, len(paths) or 1, _FILES):
                    yield
                    known = self.manifest.files(directory.path)
                    for path in paths[start : start + _FILES]:
                        self._advance(0, 0)
                        found.files += 1
                        self._file(tree, path, known.get(path), found)
                gone = known.keys() - set(paths)
                found.pending += _older((known[path] for path in gone), began_ns)
        unreadable = {error.path for error in snapshot.unreadable}
        for path in self.manifest.directories():
            if path not in seen and not unreadable:
                found.pending += _older(self.manifest.files(path).values(), began_ns)

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
        # Uses the stat of what was read: the file may have been saved since the tree was listed.
        if is_unchanged(row, raw.stat):
            found.add("stale", path)
        else:
            found.pending += 1

    def _advance(self, done: int, total: int) -> None:
        if self.should_stop():
            raise InterruptedSyncError("stopped; nothing was changed")
        self.on_progress(Progress("verify", done, total))


def _older(rows: Iterable[FileRow], than_ns: int) -> int:
    """How many rows were recorded before that time. Files recorded later may be missing from an older listing."""
    return sum(row.recorded_ns < than_ns for row in rows)


def _cosine(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """The cosine of two vectors; 0 if their lengths differ."""
    if len(a) != len(b):
        return 0.0
    norm = math.sqrt(math.fsum(x * x for x in a) * math.fsum(x * x for x in b))
    return math.fsum(x * y for x, y in zip(a, b, strict=True)) / norm if norm else float(a == b)
