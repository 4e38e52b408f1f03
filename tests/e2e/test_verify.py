"""What verify finds, and mends, that was done behind our back."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from reposyncd.app import operations
from reposyncd.errors import CorruptStoreError, UsageError
from reposyncd.model import Record
from reposyncd.store.memory import MemoryIndex
from reposyncd.sync.repos import add as add_repo
from reposyncd.sync.verify import Verification
from tests.support import Lab

FUNCTION = "def f{n}():\n" + "    # {n} does something that takes a while to say\n" * 12 + "    return {n}\n\n\n"
MODULE = "".join(FUNCTION.format(n=n) for n in range(8))
Records = dict[str, Record]


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    (tmp_path / "tree").mkdir()
    lab = Lab(tmp_path / "tree", tmp_path / "state")
    lab.write({"a.py": MODULE, "b.py": "print('b')\n", "image.png": b"\x89PNG\0"})
    lab.sync()
    return lab


def verify(lab: Lab, *, repair: bool = False) -> Verification:
    with lab.workspace() as workspace:
        [found] = operations.verify(workspace, repair=repair)
    return found


def stored(lab: Lab) -> Records:
    """The records themselves, to be tampered with."""
    assert isinstance(lab.index, MemoryIndex)
    [records] = lab.index.stored.values()
    return records


def first(records: Records) -> str:
    return min(id for id, record in records.items() if record.metadata["path"] == "a.py")


def lose(records: Records) -> None:
    del records[first(records)]


def add(records: Records) -> None:
    records["f" * 32] = records[first(records)]


def alter_text(records: Records) -> None:
    records[first(records)] = records[first(records)]._replace(text="other\n")


def alter_metadata(records: Records) -> None:
    record = records[first(records)]
    records[first(records)] = record._replace(metadata={**record.metadata, "start_line": 99})


def alter_vector(records: Records) -> None:
    record = records[first(records)]
    records[first(records)] = record._replace(vector=tuple(-x for x in record.vector))


def spoil_vector(records: Records) -> None:
    record = records[first(records)]
    records[first(records)] = record._replace(vector=tuple(float("nan") for _ in record.vector))


TAMPERINGS = [
    (lose, "missing"),
    (add, "unknown"),
    (alter_text, "altered"),
    (alter_metadata, "altered"),
    (alter_vector, "vector"),
    (spoil_vector, "vector"),
]


def test_of_a_true_index_nothing_is_said(lab: Lab) -> None:
    found = verify(lab)
    assert not found.counts
    assert found.records == found.vectors == len(lab.records())
    assert found.files == 3
    assert found.pending == 0


@pytest.mark.parametrize(("tamper", "kind"), TAMPERINGS)
def test_a_record_that_was_tampered_with_is_found_and_nothing_is_changed(
    lab: Lab, tamper: Callable[[Records], None], kind: str
) -> None:
    tamper(stored(lab))
    before = dict(stored(lab))
    found = verify(lab)
    assert found.counts == {kind: 1}
    assert [problem.kind for problem in found.problems] == [kind]
    assert not found.repaired
    assert stored(lab).keys() == before.keys()


@pytest.mark.parametrize(("tamper", "kind"), TAMPERINGS)
def test_repair_makes_it_true_again_with_little_work(lab: Lab, tamper: Callable[[Records], None], kind: str) -> None:
    tamper(stored(lab))
    found = verify(lab, repair=True)
    assert found.counts == {kind: 1}
    assert found.repaired
    lab.assert_equals_an_index_built_from_scratch()
    with lab.workspace() as workspace:
        [(_, run), *_] = operations.history(workspace, None, 1)
    assert run.result
    assert run.result["chunks"]["embedded"] <= 1
    assert not verify(lab).counts


def test_an_edit_that_no_stat_betrays_is_stale_and_repaired(lab: Lab) -> None:
    path = lab.root / "b.py"
    with lab.workspace() as workspace:
        [repo] = workspace.catalog.repos()
        [generation] = workspace.catalog.generations(repo)
        workspace._state.db.run("UPDATE file SET digest = ? WHERE name = 'b.py'", (bytes(16),))
    assert path.exists()
    assert generation
    found = verify(lab, repair=True)
    assert found.counts == {"stale": 1}
    assert found.problems[0].path == "b.py"
    lab.assert_equals_an_index_built_from_scratch()


def test_edits_since_the_last_sync_are_pending_and_no_fault(lab: Lab) -> None:
    lab.write({"b.py": "print('changed')\n", "new/c.py": "print('c')\n", "a.py": None})
    found = verify(lab)
    assert not found.counts
    assert found.pending == 3
    os.utime(lab.root / "image.png", ns=(1, 1))
    assert verify(lab).pending == 3


def test_a_file_that_cannot_be_read_is_named(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    from reposyncd.errors import UnreadableError
    from reposyncd.tree.read import Tree

    read = Tree.read

    def refuse(self: Tree, path: str, limit: int) -> object:
        if path == "b.py":
            raise UnreadableError("permission denied")
        return read(self, path, limit)

    monkeypatch.setattr(Tree, "read", refuse)
    found = verify(lab)
    assert [(each.path, each.error) for each in found.errors] == [("b.py", "permission denied")]
    assert not found.counts


def test_a_file_that_changes_under_the_read_is_pending(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    read = os.read

    def appended_to(fd: int, size: int) -> bytes:
        if os.readlink(f"/proc/self/fd/{fd}") == str(lab.root / "b.py"):
            with (lab.root / "b.py").open("a") as file:
                file.write("# another line of a log\n")
        return read(fd, size)

    monkeypatch.setattr(os, "read", appended_to)
    found = verify(lab)
    assert (found.counts, found.errors, found.pending) == ({}, [], 1)


@pytest.mark.parametrize("part", ["chunk_digest", "incident"])
def test_a_manifest_that_contradicts_itself_is_an_error_and_repaired(lab: Lab, part: str) -> None:
    """Even in a part that no sync comes by."""
    with lab.workspace() as workspace:
        workspace._state.db.run("PRAGMA wal_checkpoint(TRUNCATE)")
        [(root,)] = workspace._state.db.rows("SELECT rootpage FROM sqlite_master WHERE name = ?", (part,))
        [(size,)] = workspace._state.db.rows("PRAGMA page_size")
    with (lab.state / "manifest.db").open("r+b") as file:
        file.seek((root - 1) * size)
        file.write(os.urandom(size))
    with pytest.raises(CorruptStoreError, match=r"manifest\.db"):
        verify(lab)
    assert verify(lab, repair=True).counts == {"damaged": 1}
    assert not verify(lab).counts
    lab.assert_equals_an_index_built_from_scratch()


def test_a_repo_that_is_gone_or_not_indexed_yet_is_told_and_the_others_are_compared(lab: Lab, tmp_path: Path) -> None:
    for name in ("new", "gone"):
        (tmp_path / name).mkdir()
        with lab.workspace() as workspace:
            if name == "gone":
                operations.sync(workspace, str(tmp_path / name))
            else:
                add_repo(workspace.catalog, str(tmp_path / name), name)
    (tmp_path / "gone").rmdir()
    with lab.workspace() as workspace:
        found = {each.repo: each for each in operations.verify(workspace)}
    assert not any(each.counts for each in found.values())
    assert not found["lab"].errors
    assert "nothing of it is indexed yet" in found["new"].errors[0].error
    assert str(tmp_path / "gone") in found["gone"].errors[0].error


def test_a_repo_is_named_by_name_or_path_and_others_are_refused(lab: Lab) -> None:
    with lab.workspace() as workspace:
        assert (
            operations.verify(workspace, "lab")[0].repo == operations.verify(workspace, str(lab.root))[0].repo == "lab"
        )
        with pytest.raises(UsageError, match='there is no repository "other"; known: lab'):
            operations.verify(workspace, "other")


def test_what_was_found_is_plain_json(lab: Lab) -> None:
    lose(stored(lab))
    [problem] = json.loads(json.dumps(verify(lab).to_dict()))["problems"]
    assert problem["kind"] == "missing"
    assert problem["path"] == "a.py"
