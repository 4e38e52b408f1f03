"""What every administration of a store promises, run on the one in memory and on that of every kind of
store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from reposyncd.errors import InterruptedSyncError
from reposyncd.model import Batch, ChunkRow, NewChunk
from reposyncd.ports import RunningIndex, StoreAdmin
from reposyncd.store.memory import MemoryAdmin
from reposyncd.sync.plan import chunk_id, text_digest
from tests.contract import stores
from tests.support import memory_index

NAME = "c-1"


@dataclass
class Stored:
    """A store, and the index that writes to it."""

    admin: StoreAdmin
    index: RunningIndex

    def put(self, number: int, count: int = 3) -> None:
        """Stores records, and closes the store."""
        self.index.open(NAME, {"reposyncd_repo": "r"})
        texts = [f"text {number} {each}\n" for each in range(count)]
        rows = [ChunkRow(chunk_id("r", "a", text_digest(t), 0), "a", 1, 1, "", "text", text_digest(t)) for t in texts]
        added = tuple(NewChunk(row, text) for row, text in zip(rows, texts, strict=True))
        self.index.apply(NAME, Batch("r", added, ())).result()
        self.index.release()

    def ids(self) -> set[str]:
        try:
            return self.index.ids(NAME)
        finally:
            self.index.release()


@pytest.fixture(params=["memory", *stores.NAMES])
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stored]:
    if request.param == "memory":
        memory = memory_index()
        yield Stored(MemoryAdmin(memory.store), memory)
        return
    index = stores.index(request.param, tmp_path)
    yield Stored(stores.admin(request.param, tmp_path), index)
    index.release()


def nothing() -> None:
    """A hook that lets everything go on."""


def stop() -> None:
    raise InterruptedSyncError("stopped")


def test_a_new_store_is_empty_free_and_without_trouble(stored: Stored) -> None:
    stored.admin.ensure()
    stored.admin.ensure()
    assert stored.admin.is_empty()
    assert stored.admin.kind
    assert stored.admin.lock_holder() is None
    assert stored.admin.trouble() == ""
    stored.admin.check()
    stored.admin.inspect([NAME], nothing)
    stored.admin.require_space(1)
    assert not stored.admin.is_checkpoint_due({})


def test_ensuring_a_store_that_exists_changes_nothing(stored: Stored) -> None:
    stored.admin.ensure()
    stored.put(1)
    stored.admin.ensure()
    assert not stored.admin.is_empty()
    assert len(stored.ids()) == 3


def test_a_store_is_recognised_until_somebody_writes_to_it(stored: Stored) -> None:
    stored.admin.ensure()
    stored.put(1)
    stamp = stored.admin.stamp()
    assert stamp
    assert stored.admin.recognise(stamp)
    stored.ids()  # reading is no change
    recognised = stored.admin.recognise(stamp)
    assert recognised
    assert stored.admin.recognise(recognised)
    stored.put(2)
    assert stored.admin.recognise(recognised) is None
    assert stored.admin.recognise("") is None


def test_a_sound_store_passes_its_checks(stored: Stored) -> None:
    stored.admin.ensure()
    stored.put(1)
    stored.admin.check()
    stored.admin.inspect([NAME, "absent"], nothing)


def test_a_checkpoint_loses_nothing(stored: Stored) -> None:
    stored.admin.ensure()
    stored.put(1)
    before = stored.ids()
    stored.admin.checkpoint({NAME: len(before)}, release=stored.index.release, on_wait=nothing)
    assert stored.ids() == before
    stored.admin.check()
    stored.admin.inspect([NAME], nothing)


def test_a_checkpoint_that_is_stopped_changes_nothing(stored: Stored) -> None:
    stored.admin.ensure()
    stored.put(1)
    before, stamp = stored.ids(), stored.admin.stamp()
    try:
        stored.admin.checkpoint({NAME: len(before)}, release=stored.index.release, on_wait=stop)
    except InterruptedSyncError:
        assert stored.admin.recognise(stamp)
    assert stored.ids() == before


def test_a_store_that_is_quarantined_makes_room_for_an_empty_one(stored: Stored, tmp_path: Path) -> None:
    stored.admin.ensure()
    stored.put(1)
    stamp = stored.admin.stamp()
    stored.admin.quarantine()
    stored.admin.ensure()
    assert stored.admin.is_empty()
    assert stored.admin.recognise(stamp) is None
    stored.put(2)
    assert len(stored.ids()) == 3


def test_what_was_salvaged_can_be_discarded_although_it_is_nothing(stored: Stored) -> None:
    stored.admin.ensure()
    stored.admin.discard_salvage()
    stored.admin.discard_salvage()
