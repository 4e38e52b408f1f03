"""What is searched while an index is rebuilt with another model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reposyncd.app import operations
from reposyncd.app.workspace import Workspace
from reposyncd.daemon.http.responses import REBUILD_S, failure
from reposyncd.errors import RebuildingError, UsageError
from reposyncd.store.locks import state_lock
from tests.crash.faults import StoreLab
from tests.support import config_for

ANOTHER_MODEL = {"REPOSYNCD_EMBEDDING__MODEL": "static"}


@pytest.fixture
def lab(tmp_path: Path) -> StoreLab:
    (tmp_path / "tree").mkdir()
    (tmp_path / "other").mkdir()
    lab = StoreLab(tmp_path / "tree", tmp_path / "state")
    lab.write({"door.py": "def open_door(key):\n    return unlock(key)\n", "http.py": "def listen(port): ...\n"})
    (tmp_path / "other" / "sea.py").write_text("def sail(ship): ...\n")
    return lab


def begin_to_rebuild(lab: StoreLab, **variables: str) -> None:
    """A sync with another configuration, which is stopped before it is done."""
    with Workspace(config_for(lab.state, **lab.variables, **variables), {"HOME": "/nonexistent"}) as workspace:
        repo = next(each for each in workspace.catalog.repos() if each.root == str(lab.root))
        workspace.catalog.add_generation(repo, workspace.fingerprint, "building")


def made_by_a_model_that_is_gone(lab: StoreLab) -> None:
    with lab.workspace() as workspace:
        repo = next(each for each in workspace.catalog.repos() if each.root == str(lab.root))
        old = workspace.fingerprint.rpartition("; ")[0] + "; some-model=0.1 dim=256"
        workspace._state.db.run("UPDATE generation SET fingerprint = ? WHERE repo = ?", (old, repo.id))


def test_the_index_of_before_answers_with_the_model_that_made_it(lab: StoreLab) -> None:
    lab.sync()
    with lab.workspace() as workspace:
        before = operations.search(workspace, "unlock the door", None, 2).hits
    begin_to_rebuild(lab, **ANOTHER_MODEL)
    changed = {**lab.variables, **ANOTHER_MODEL}
    with Workspace(config_for(lab.state, **changed), {"HOME": "/nonexistent"}) as workspace:
        found = operations.search(workspace, "unlock the door", None, 2)
    assert [(hit.path, round(hit.score, 5)) for hit in found.hits] == [
        (hit.path, round(hit.score, 5)) for hit in before
    ]
    [notice] = found.notices
    assert "searched in its old index" in notice.text
    assert found.is_complete


def test_where_only_the_chunker_is_another_one_no_other_model_is_started(lab: StoreLab) -> None:
    lab.sync()
    with lab.workspace() as workspace:
        old = workspace.fingerprint.replace("charset_normalizer=", "charset_normalizer=0.")
        workspace._state.db.run("UPDATE generation SET fingerprint = ?", (old,))
        found = operations.search(workspace, "unlock the door", None, 1)
        assert [hit.path for hit in found.hits] == ["door.py"]
        assert workspace.processes._embedders._made == {}
        assert len(found.notices) == 1


def test_without_that_model_it_is_busy_while_it_is_rebuilt_and_a_sync_is_named_when_it_is_not(lab: StoreLab) -> None:
    lab.sync()
    made_by_a_model_that_is_gone(lab)
    out = lab.run("search", "door")
    assert out.returncode == UsageError.exit_code
    assert f"build the index anew with: reposyncd sync {lab.root}" in out.stderr
    with state_lock(str(lab.state), 0), lab.workspace() as workspace:
        workspace._state.db.run("UPDATE run SET outcome = 'running', files_done = 2, files_total = 9")
        out = lab.run("search", "door")
    assert out.returncode == 75
    assert "being rebuilt with another model, 2 of 9 files; ask again later" in out.stderr


def test_the_other_repositories_are_searched_all_the_same(lab: StoreLab, tmp_path: Path) -> None:
    lab.sync()
    with lab.workspace() as workspace:
        operations.sync(workspace, str(tmp_path / "other"))
    made_by_a_model_that_is_gone(lab)
    out = lab.run("search", "sail the ship", "--json")
    assert out.returncode == 0
    assert [hit["path"] for hit in json.loads(out.stdout)] == ["sea.py"]
    assert "reposyncd: lab: not searched: its index is still to be rebuilt with another model" in out.stderr


def test_over_http_busy_is_503_and_says_when_to_ask_again() -> None:
    answer = failure(RebuildingError("lab: its index is being rebuilt"))
    assert answer.status == 503
    assert answer.headers == {"Retry-After": str(REBUILD_S)}
