"""A checkpoint that dies at any step, and what it is for."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from reposyncd.app import operations
from reposyncd.app.workspace import Workspace
from reposyncd.errors import CorruptStoreError, StoreError
from reposyncd.store.chroma.address import EmbeddedAddress
from reposyncd.store.chroma.checkpoint import (
    LOG_ROWS,
    LOG_SHARE,
    Checkpoint,
    StoreMeasure,
    elements,
    examine,
    is_due,
    plan,
)
from reposyncd.store.chroma.directory import StoreDirectory
from reposyncd.store.chroma.locks import NO_LOCK
from reposyncd.store.chroma.maintenance import Maintenance
from tests.crash.faults import PROJECT, StoreLab, many_files
from tests.support import Lab, write

STEPS = ("copy", "persist", "vacuum", "probe", "sync", "swap")

DIES = """
import os, signal, sys
from reposyncd.store.chroma import checkpoint
from reposyncd.store.chroma.directory import StoreDirectory
from tests.support import config_for, later_ns
from reposyncd.app import operations
from reposyncd.app.workspace import Workspace
checkpoint.LOG_ROWS = 0
state, root, where, step = sys.argv[1:]
die = lambda: os.kill(os.getpid(), signal.SIGKILL)
target, name = (StoreDirectory, step) if step in ("serve", "clean") else (checkpoint.Checkpoint, step)
original = getattr(target, name)
served = []
def dying(self, *arguments):
    # Of a place, only the checkpoint's own calls count: those after the copy serves, or is about to.
    if target is StoreDirectory and not served:
        return original(self, *arguments)
    if where == "before":
        die()
    original(self, *arguments)
    die()
setattr(target, name, dying)
probe = checkpoint.Checkpoint.probe
def probed(self):
    probe(self)
    served.append(1)
if step != "probe":
    checkpoint.Checkpoint.probe = probed
from pathlib import Path
with Workspace(config_for(Path(state)), {"HOME": "/nonexistent"}, now_ns=later_ns) as workspace:
    operations.sync(workspace, root, "lab")
"""


@pytest.fixture
def lab(tmp_path: Path) -> StoreLab:
    lab = StoreLab(tmp_path / "tree", tmp_path / "state")
    lab.write(many_files(30))
    return lab


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reposyncd.store.chroma.checkpoint.LOG_ROWS", 0)


def log_rows(lab: Lab) -> int:
    return examine(str(lab.state / "chroma")).log_rows


@pytest.mark.parametrize(
    ("where", "step"), [("before", "serve"), *(("after", step) for step in (*STEPS, "serve", "clean"))]
)
def test_a_sync_killed_in_a_checkpoint_is_made_good_by_the_next_one(
    lab: StoreLab, always: None, step: str, where: str
) -> None:
    arguments = [str(lab.state), str(lab.root), where, step]
    died = subprocess.run([sys.executable, "-c", DIES, *arguments], cwd=PROJECT, capture_output=True, text=True)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert len(lab.committed()) > 0
    assert lab.mend().chunks.embedded == 0
    assert log_rows(lab) == 0
    assert len(list(lab.state.glob("store-*"))) == 1
    assert not (lab.state / "quarantine").exists()


def test_after_a_checkpoint_the_log_is_empty_and_the_index_is_the_same(lab: StoreLab, always: None) -> None:
    lab.mend()
    assert log_rows(lab) <= 2
    lab.write({"src/new.py": "print('new')\n"})
    assert lab.mend().chunks.embedded == 1
    lab.write({"src/new.py": None})
    lab.mend()
    assert log_rows(lab) <= 2  # the fewest that Chroma persists


def test_between_two_checkpoints_chroma_persists_nothing(lab: StoreLab, always: None, tmp_path: Path) -> None:
    lab.sync()
    (tmp_path / "empty").mkdir()
    with lab.workspace() as workspace:
        operations.sync(workspace, str(tmp_path / "empty"))  # a collection without records beside it
    lab.write(many_files(40))
    lab.sync()
    before = stats_of_segments(lab)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reposyncd.store.chroma.checkpoint.LOG_ROWS", 1 << 60)
        lab.write(many_files(60))
        lab.sync()
    assert log_rows(lab) >= 20
    assert stats_of_segments(lab) == before


def stats_of_segments(lab: Lab) -> dict[str, tuple[int, int]]:
    """Of the vector indexes that are persisted."""
    return {
        path.name: (path.stat().st_size, path.stat().st_mtime_ns)
        for pickle in (lab.state / "chroma").resolve().glob("*/index_metadata.pickle")
        for path in pickle.parent.iterdir()
    }


def test_what_was_deleted_is_reclaimed(lab: StoreLab, always: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reposyncd.store.chroma.checkpoint.SMALL", 0)
    lab.sync()
    for n in range(4):
        lab.write({path: f"round {n}\n{text!s}" for path, text in many_files(30).items()})
        lab.sync()
    with lab.workspace() as workspace:
        [repo] = workspace.catalog.repos()
        [generation] = workspace.catalog.generations(repo)
        [vectors] = elements(str(lab.state / "chroma")).values()
        assert vectors <= 2 * generation.chunks
    lab.mend()


def test_the_lock_file_is_the_same_before_and_after(lab: StoreLab, always: None) -> None:
    lab.sync()
    before = os.stat(lab.state / "chroma" / ".chroma.lock").st_ino
    place = os.path.realpath(lab.state / "chroma")
    lab.write(many_files(40))
    lab.sync()
    assert os.path.realpath(lab.state / "chroma") != place
    assert os.stat(lab.state / "chroma" / ".chroma.lock").st_ino == before


def checkpoint_of(workspace: Workspace) -> Checkpoint:
    [repo] = workspace.catalog.repos()
    [generation] = workspace.catalog.generations(repo)

    def maintain(path: str) -> Maintenance:
        return Maintenance(workspace.processes.maintenance(EmbeddedAddress(path, NO_LOCK), "checkpoint.log"))

    return Checkpoint(
        StoreDirectory(workspace._state.path),
        {generation.collection: generation.chunks},
        maintain=maintain,
        release=workspace.index.release,
        lock_timeout_s=1,
    )


def test_what_another_program_writes_meanwhile_is_not_lost(lab: StoreLab) -> None:
    lab.sync()
    with lab.workspace() as workspace:
        checkpoint = checkpoint_of(workspace)
        *steps, swap = checkpoint.steps()
        for step in steps:
            step()
        with sqlite3.connect(lab.state / "chroma" / "chroma.sqlite3") as other:
            other.execute("CREATE TABLE theirs (x)")
        other.close()
        with pytest.raises(StoreError, match="another program has written"):
            swap()
        StoreDirectory(workspace._state.path).clean()
    with sqlite3.connect(lab.state / "chroma" / "chroma.sqlite3") as other:
        assert other.execute("SELECT name FROM sqlite_master WHERE name = 'theirs'").fetchone()
    other.close()
    lab.mend()


def test_a_copy_that_lacks_records_never_serves(lab: StoreLab) -> None:
    lab.sync()
    place = os.path.realpath(lab.state / "chroma")
    with lab.workspace() as workspace:
        checkpoint = checkpoint_of(workspace)
        checkpoint.copy()
        [name] = checkpoint._live
        checkpoint._live = {name: checkpoint._live[name] + 1}
        checkpoint.persist()
        checkpoint.vacuum()
        with pytest.raises(CorruptStoreError, match="records in the store"):
            checkpoint.probe()
        StoreDirectory(workspace._state.path).clean()
    assert os.path.realpath(lab.state / "chroma") == place
    lab.mend()


def test_without_room_for_a_copy_the_sync_is_none_the_worse(
    lab: StoreLab, always: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = shutil.disk_usage(lab.root).free
    monkeypatch.setattr("reposyncd.store.chroma.checkpoint.examine", lambda path: StoreMeasure(10_000, free))
    told: list[str] = []
    with lab.workspace() as workspace:
        operations.sync(workspace, str(lab.root), "lab", on_progress=lambda progress: told.append(progress.trouble))
    assert any("the checkpoint of the store failed" in each and "is full" in each for each in told)
    monkeypatch.undo()
    lab.mend()


def test_it_is_due_when_the_log_is_long_for_the_size_of_the_store() -> None:
    assert not is_due(StoreMeasure(LOG_ROWS, 0), 10)
    assert is_due(StoreMeasure(LOG_ROWS + 1, 0), 10)
    assert not is_due(StoreMeasure(LOG_ROWS + 1, 0), (LOG_ROWS + 1) * LOG_SHARE)


def test_only_collections_of_ours_with_many_dead_vectors_are_written_anew() -> None:
    live = {"dead": 1000, "living": 1000, "new": 1000}
    assert plan({"dead": 3001, "living": 3000, "foreign": 1_000_000}, live).compact == ("dead",)


def scores(reader: Workspace) -> list[float]:
    """Of hits of equal score either may be the better one."""
    return [round(hit.score, 4) for hit in operations.search(reader, "f1", None, 3).hits]


def test_a_search_whose_store_is_replaced_under_its_hands_finds_the_same(lab: StoreLab) -> None:
    lab.sync()
    with lab.workspace() as reader, lab.workspace() as writer:
        before = scores(reader)
        checkpoint = checkpoint_of(writer)
        for step in checkpoint.steps():
            step()
        assert scores(reader) == before  # from the store that is gone, or the one that took its place
        reader.index.release()
        assert scores(reader) == before


def test_a_search_that_starts_while_the_store_is_replaced_tries_the_one_that_serves(lab: StoreLab) -> None:
    lab.sync()
    with lab.workspace() as reader, lab.workspace() as writer:
        before = scores(reader)
        reader.index.release()
        checkpoint = checkpoint_of(writer)
        reader.index.start()  # it knows the old place, and has not opened it
        for step in checkpoint.steps():
            step()
        assert scores(reader) == before
    assert len(list(lab.state.glob("store-*"))) == 1


def test_a_collection_that_was_dropped_since_is_not_taken_for_damage(
    lab: StoreLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reposyncd.store.chroma.checkpoint.LOG_ROWS", 0)
    lab.sync()
    monkeypatch.setattr("reposyncd.store.chroma.checkpoint.LOG_ROWS", 1 << 60)
    lab.variables["REPOSYNCD_EMBEDDING__MODEL"] = "static"
    lab.sync()  # another collection is built, and the first one dropped
    os.utime(lab.state / "chroma" / "chroma.sqlite3")
    result = lab.sync()
    assert result.chunks.embedded == result.chunks.added == 0
    assert not (lab.state / "quarantine").exists()


def test_after_a_checkpoint_a_repository_of_one_chunk_is_sound_and_reading_the_store_costs_nothing(
    lab: StoreLab, always: None, tmp_path: Path
) -> None:
    """Chroma persists no index of one record, and writes its files anew whenever it opens them."""
    write(tmp_path / "one", {"a.py": "print('a')\n"})
    with lab.workspace() as workspace:
        operations.sync(workspace, str(tmp_path / "one"), "one")
        operations.sync(workspace, str(lab.root), "lab")
    place = os.path.realpath(lab.state / "chroma")
    with lab.workspace() as workspace:
        assert {hit.path for hit in operations.search(workspace, "print a", "one", 1).hits} == {"a.py"}
        assert not any(found.counts for found in operations.verify(workspace))
    with lab.workspace() as workspace:
        for root in (lab.root, tmp_path / "one"):
            assert operations.sync(workspace, str(root)).is_empty
        assert workspace.processes._index is None  # nobody has even asked for the store
    lab.write({"new.py": "print('new')\n"})
    with lab.workspace() as workspace:
        assert operations.sync(workspace, str(lab.root)).chunks.embedded == 1
    assert os.path.realpath(lab.state / "chroma") == place  # one row is too few for a checkpoint
    assert not (lab.state / "quarantine").exists()
