"""Batches that the store refuses, or that kill it: the file that does it is found, and the others are stored."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path

import pytest

from reposyncd.errors import LethalOperationError, NoSpaceError, PermanentStoreError, StoreError, TransientStoreError
from reposyncd.model import Applied, Batch
from reposyncd.store.chroma.admin import EmbeddedAdmin
from reposyncd.store.kinds import StoreSettings
from reposyncd.store.memory import MemoryIndex
from reposyncd.sync.pipeline import QUARANTINED_AT_MOST
from tests.local_index import LocalMaintenance
from tests.support import Lab, memory_index

TEXT = "a line of a file\n" * 30


class FussyIndex(MemoryIndex):
    """Refuses every batch with a text that has a word in it, as a child that dies of it would."""

    def __init__(self, word: str, error: type[StoreError] = LethalOperationError, *, always: bool = False) -> None:
        super().__init__(memory_index()._embed)
        self._word, self._error, self._always = word, error, always
        self.refused = 0

    def apply(self, collection: str, batch: Batch) -> Future[Applied]:
        if self._always or any(self._word in chunk.text for chunk in batch.added):
            self.refused += 1
            failed: Future[Applied] = Future()
            failed.set_exception(self._error("it died of SIGSEGV"))
            return failed
        return super().apply(collection, batch)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    (tmp_path / "tree").mkdir()
    lab = Lab(tmp_path / "tree", tmp_path / "state", variables={"REPOSYNCD_STORE__PATIENCE": "0"})
    lab.write({f"d/{n}.txt": f"{n}\n{TEXT}" for n in range(40)})
    return lab


@pytest.mark.parametrize("error", [LethalOperationError, PermanentStoreError])
def test_the_one_file_that_kills_the_index_process_is_quarantined_and_the_others_are_stored(
    lab: Lab, error: type[StoreError]
) -> None:
    lab.index = FussyIndex("poison", error)
    lab.write({"d/7.txt": f"poison\n{TEXT}"})
    result = lab.sync()
    assert [each.path for each in result.errors] == ["d/7.txt"]
    assert "SIGSEGV" in result.errors[0].error
    assert lab.paths() == {f"d/{n}.txt" for n in range(40) if n != 7}
    assert result.files.total == 39


def test_a_quarantined_file_is_left_alone_until_it_changes(lab: Lab) -> None:
    lab.index = fussy = FussyIndex("poison")
    lab.write({"d/7.txt": f"poison\n{TEXT}"})
    lab.sync()
    refused = fussy.refused
    again = lab.sync()
    assert again.files.skipped == {"quarantined": 1}
    assert not again.errors
    assert not lab.sync(full=True).errors
    assert fussy.refused == refused
    lab.write({"d/7.txt": f"harmless\n{TEXT}"})
    assert lab.sync().files.total == 40
    lab.assert_equals_an_index_built_from_scratch()


def test_what_was_stored_of_a_file_before_it_was_quarantined_leaves_the_index(lab: Lab) -> None:
    lab.index = FussyIndex("poison")
    lab.sync()
    lab.write({"d/7.txt": f"7\n{TEXT}poison\n"})
    lab.sync()
    assert "d/7.txt" not in lab.paths()
    with lab.workspace() as workspace:
        [repo] = workspace.catalog.repos()
        [generation] = workspace.catalog.generations(repo)
        assert [each.path for each in workspace.manifest(generation).verdicts()] == ["d/7.txt"]
        assert {row.id for row in workspace.manifest(generation).all_chunks()} == lab.records().keys()
        assert not workspace.manifest(generation).intents()


def test_a_store_that_dies_of_every_batch_quarantines_nothing(lab: Lab) -> None:
    lab.index = FussyIndex("", always=True)
    with pytest.raises(TransientStoreError, match="SIGSEGV"):
        lab.sync()
    with lab.workspace() as workspace:
        [repo] = workspace.catalog.repos()
        [generation] = workspace.catalog.generations(repo)
        assert workspace.manifest(generation).verdicts() == []
    lab.index = memory_index()
    lab.sync()
    lab.assert_equals_an_index_built_from_scratch()


def test_more_files_than_can_be_an_accident_are_not_given_up(lab: Lab) -> None:
    lab.index = FussyIndex("a line of a file")
    with pytest.raises(TransientStoreError, match="SIGSEGV"):
        lab.sync()
    with lab.workspace() as workspace:
        [repo] = workspace.catalog.repos()
        [generation] = workspace.catalog.generations(repo)
        assert len(workspace.manifest(generation).verdicts()) == QUARANTINED_AT_MOST


def test_without_room_on_the_disk_nothing_is_begun(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reposyncd.store.space.RESERVE_BYTES", 1 << 62)
    with pytest.raises(NoSpaceError, match=r"is full: .* MB are free, and storing the next 40 chunks takes up to"):
        lab.sync()
    assert lab.records() == {}
    monkeypatch.undo()
    lab.sync()
    lab.assert_equals_an_index_built_from_scratch()


def test_more_chunks_need_more_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reposyncd.store.space.RESERVE_BYTES", 0)
    admin = EmbeddedAdmin(lambda: StoreSettings(str(tmp_path), lock_timeout_s=1), LocalMaintenance)
    admin.require_space(0)
    with pytest.raises(NoSpaceError):
        admin.require_space(1 << 50)
