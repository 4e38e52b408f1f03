"""What the index process measures while it applies a batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from reposyncd.model import Batch, ChunkRow, NewChunk
from reposyncd.ports import Metadata
from reposyncd.store.memory import MemoryBackend, MemoryCollections
from reposyncd.store.process import worker
from reposyncd.store.process.worker import IndexWorker
from tests.support import index_process

if TYPE_CHECKING:
    from reposyncd.ports import Vectors

EMBEDDING_S, READING_S, WAITING_S, WRITING_S = 3.0, 20.0, 100.0, 5.0


class Clock:
    """Stands in for `time`: it advances when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


class SlowCollections(MemoryCollections):
    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def vectors(self, name: str, ids: Sequence[str]) -> dict[str, Any]:
        self._clock.now += READING_S
        return super().vectors(name, ids)

    def upsert(
        self, name: str, ids: Sequence[str], texts: Sequence[str], vectors: Vectors, metadatas: Sequence[Metadata]
    ) -> None:
        self._clock.now += WRITING_S
        super().upsert(name, ids, texts, vectors, metadatas)


class LockedBackend(MemoryBackend):
    """Its lock is held by another program at first."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(SlowCollections(clock))
        self._clock = clock

    @contextmanager
    def writing(self) -> Iterator[None]:
        self._clock.now += WAITING_S
        yield


def batch(*texts: str, source: str | None = None) -> Batch:
    rows = [ChunkRow(f"{n:032x}", "f", n + 1, n + 1, "", "text", "0" * 32) for n in range(len(texts))]
    return Batch("r", tuple(NewChunk(row, text, source) for row, text in zip(rows, texts, strict=True)), ())


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(worker, "time", clock)
    return clock


@pytest.fixture
def index(clock: Clock) -> IndexWorker:
    def embed(texts: list[str]) -> Vectors:
        clock.now += EMBEDDING_S
        return np.ones((len(texts), 1), np.float32)

    index = IndexWorker(LockedBackend(clock), embed)
    index.open("c", {})
    return index


def test_embedding_and_storing_are_measured_and_the_wait_for_the_lock_is_not(index: IndexWorker) -> None:
    applied = index.perform("apply", index.prepare("apply", ("c", batch("a\n", "b\n", "a\n"))))
    assert (applied.embedded, applied.characters) == (2, 4)
    assert (applied.embed_s, applied.store_s) == (EMBEDDING_S, READING_S + WRITING_S)


def test_texts_whose_vector_could_not_be_copied_are_embedded_and_measured_too(index: IndexWorker) -> None:
    applied = index.perform("apply", index.prepare("apply", ("c", batch("a\n", source="f" * 32))))
    assert (applied.embedded, applied.embed_s, applied.store_s) == (1, EMBEDDING_S, READING_S + WRITING_S)


def test_what_is_not_embedded_takes_no_time_to_embed(index: IndexWorker) -> None:
    added = batch("a\n").added
    applied = index.perform("apply", index.prepare("apply", ("c", Batch("r", (), (added[0].row,)))))
    assert (applied.embedded, applied.embed_s) == (0, 0.0)


def test_the_durations_come_back_from_the_process(tmp_path: Path) -> None:
    process = index_process(tmp_path)
    try:
        process.open("c-1", {"reposyncd_repo": "r"})
        applied = process.apply("c-1", batch("a\n", "b\n")).result()
    finally:
        process.close()
    assert applied.embedded == 2
    assert applied.embed_s > 0
    assert applied.store_s > 0
