"""The façade in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reposyncd.app.local import LocalApp
from reposyncd.app.messages import TaskProgress
from reposyncd.app.workspace import Workspace
from reposyncd.embedding import EmbedderSpec, create
from reposyncd.errors import DaemonNotRunningError, InterruptedSyncError, NotFoundError, TransientStoreError, UsageError
from reposyncd.store.memory import MemoryIndex
from tests.support import Lab, config_for


class LabApp(LocalApp):
    """Works on the index of a lab."""

    def __init__(self, lab: Lab, stop: Callable[[], bool] = lambda: False) -> None:
        self.told: list[str] = []
        self.stoppable = 0
        super().__init__(config_for(lab.state), stop=self._stoppable, notify=self.told.append)
        self._lab = lab
        self._asked_to_stop = stop

    @contextmanager
    def _stoppable(self) -> Iterator[Callable[[], bool]]:
        self.stoppable += 1
        yield self._asked_to_stop

    def _workspace(self) -> Workspace:
        return self._lab.workspace()


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    lab = Lab(tmp_path / "tree", tmp_path / "state")
    lab.write({"door.py": "def open_door(key):\n    return unlock(key)\n", "sea.py": "def sail(ship): ...\n"})
    return lab


def test_what_is_synced_is_found_on_record_and_as_it_should_be(lab: Lab) -> None:
    app = LabApp(lab)
    progress: list[TaskProgress] = []
    result = app.sync(str(lab.root), "lab", False).result(progress.append)
    assert (result["repo"], result["files"]["new"]) == ("lab", 2)
    assert {each["phase"] for each in progress} >= {"scan", "index"}
    found = app.search("unlock the door", None, 1).result()
    assert [hit["path"] for hit in found["hits"]] == ["door.py"]
    assert (found["complete"], found["notices"]) == (True, [])
    assert [each["counts"] for each in app.verify(None, False).result()["repos"]] == [{}]
    assert [run["outcome"] for run in app.runs("lab", 5)["runs"]] == ["done"]
    assert [repo["state"] for repo in app.status()["repos"]] == ["current"]


def test_nothing_is_done_before_the_result_is_asked_for(lab: Lab) -> None:
    LabApp(lab).sync(str(lab.root), "lab", False)
    assert not lab.state.exists()


def test_long_work_asks_whether_to_stop(lab: Lab) -> None:
    app = LabApp(lab, stop=lambda: True)
    with pytest.raises(InterruptedSyncError):
        app.sync(str(lab.root), "lab", False).result()
    LabApp(lab).sync(str(lab.root), "lab", False).result()
    with pytest.raises(InterruptedSyncError):
        app.verify(None, False).result()
    assert app.stoppable == 2


def test_what_only_a_service_can_do_says_how_to_start_it(lab: Lab) -> None:
    app = LabApp(lab)
    for ask in (app.pause, app.resume, app.flush):
        with pytest.raises(DaemonNotRunningError, match="start it with: reposyncd service install"):
            ask(None)


def test_what_is_recorded_and_not_indexed_can_be_listed_and_removed(lab: Lab) -> None:
    app = LabApp(lab)
    ref = app.add(str(lab.root), "lab").result()
    assert ref == {"name": "lab", "root": str(lab.root)}
    assert app.add(str(lab.root), None).result() == ref
    with pytest.raises(UsageError, match=f"build the index with: reposyncd sync {lab.root}"):
        app.search("door", None, 1).result()
    assert app.remove("lab").result() == ref
    with pytest.raises(NotFoundError, match="nothing is indexed yet"):
        app.runs(None, 5)


class Stuck(MemoryIndex):
    """Cannot delete a collection."""

    def drop(self, collection: str) -> None:
        raise TransientStoreError("the disk is full")


def test_whoever_removes_a_repository_is_told_what_could_not_be_deleted(lab: Lab) -> None:
    lab.index = Stuck(create(EmbedderSpec("hashing")).embed)
    app = LabApp(lab)
    app.sync(str(lab.root), "lab", False).result()
    app.remove("lab").result()
    [line] = app.told
    assert "its records could not be deleted yet (the disk is full)" in line
