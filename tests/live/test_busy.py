"""While edits keep coming, each before the last one is taken up, everything else is still done."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reposyncd.daemon.engine import repo_state, schedule
from reposyncd.daemon.engine.periodic import missing, removed, roots, verification
from reposyncd.daemon.service import Daemon
from tests.live.service import Live, live, many, result_of, until
from tests.live.test_service import clone
from tests.support import write


class Edited:
    """An index; whenever a batch of the first tree is stored, another edit of it is due before the job ends."""

    def __init__(self, index: Any) -> None:
        self._index = index
        self.lab: Live | None = None
        """from when there are edits"""
        self.edits = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._index, name)

    def observed(self, on_wait: Any) -> Any:
        return self

    def apply(self, collection: str, batch: Any) -> Any:
        stored = self._index.apply(collection, batch)
        if self.lab and batch.repo == "lab":
            self.edit(self.lab)
        return stored

    def edit(self, lab: Live) -> None:
        assert lab.daemon
        changes = lab.daemon.engine.registry._repos["lab"].changes
        self.edits += 1
        lab.write({f"d{self.edits % 5}/f.py": f"edit = {self.edits}\n"})
        until(lambda: (due := changes.due()) is not None and due < time.monotonic(), "the edit is due")


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Live]:
    monkeypatch.setattr(roots, "ROOTS_S", 1.0)
    monkeypatch.setattr(missing, "COUNT_S", 1.0)
    for each in (removed.DropRemoved, roots.CheckRoots, missing.CountMissing):
        monkeypatch.setattr(each, "max_delay_s", 0.1)
    monkeypatch.setattr(repo_state, "MISSING_S", 0.1)
    monkeypatch.setattr(schedule, "STARVED_S", 1.0)
    (tmp_path / "src").mkdir()
    lab = live(
        tmp_path,
        REPOSYNCD_WATCH__SETTLE="0.01",
        REPOSYNCD_DISCOVER__ROOTS=f'["{tmp_path}/src"]',
        REPOSYNCD_DISCOVER__INTERVAL="1",
    )
    index: Any = Edited(lab.index)
    lab.index = index
    lab.write({"a.py": "one = 1\n"})
    write(tmp_path / "other", {"b.py": "two = 2\n"})
    with lab.running() as daemon:
        result_of(daemon.sync(str(tmp_path / "other"), "other", False))
        index.lab = lab
        index.edit(lab)
        yield lab
        begun = index.edits
        until(lambda: index.edits > begun, "the edits are taken up all the while")
        index.lab = None
        for repo in daemon.status()["repos"]:
            if repo["name"] != "lab":
                result_of(daemon.remove(repo["name"]))
        lab.assert_current()


def state_of(daemon: Daemon, name: str) -> str | None:
    return next((str(each["state"]) for each in daemon.status()["repos"] if each["name"] == name), None)


def service(lab: Live) -> Daemon:
    assert lab.daemon
    return lab.daemon


def test_repositories_are_discovered(lab: Live, tmp_path: Path) -> None:
    clone(tmp_path / "src" / "new", {"c.py": "three = 3\n"})
    until(lambda: state_of(service(lab), "new") == "current", "it is found, and indexed")


def test_the_collections_of_removed_repositories_are_dropped(lab: Live) -> None:
    assert len(lab.index.collections()) == 2
    result_of(service(lab).remove("other"))
    until(lambda: len(lab.index.collections()) == 1, "it is dropped")


def test_a_root_that_is_gone_without_an_event_is_missed_and_its_time_is_counted(lab: Live, tmp_path: Path) -> None:
    service(lab).engine.watching.drop(str(tmp_path / "other"))
    (tmp_path / "other").rename(tmp_path / "elsewhere")
    until(lambda: state_of(service(lab), "other") == "missing", "it is missed")
    registry = service(lab).engine.registry
    until(lambda: registry.named("other")[0].repo.missing_s > 0, "it is counted for how long")
    shutil.move(tmp_path / "elsewhere", tmp_path / "other")
    until(lambda: state_of(service(lab), "other") == "current", "it is back")


def test_a_comparison_comes_to_its_end_and_finds_nothing_in_what_is_saved_meanwhile(lab: Live) -> None:
    found = result_of(service(lab).verify(None, False))["repos"]
    assert [(each["repo"], each["counts"]) for each in found] == [("lab", {}), ("other", {})]


def test_saves_are_taken_up_between_the_slices_of_one_comparison(lab: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "MAX_DELAY_S", 0.0)
    monkeypatch.setattr(verification.VerifyRepos, "max_delay_s", 0.0)
    monkeypatch.setattr(verification, "SLICE_S", 0.0)  # a step at a time
    lab.write(many(300))
    lab.flush()
    index: Any = lab.index
    begun = index.edits
    [found] = result_of(service(lab).verify("lab", False))["repos"]
    assert found["counts"] == {}
    assert found["files"] >= 300
    assert index.edits > begun + 3


def test_what_is_wrong_is_found_and_repaired(lab: Live) -> None:
    for records in lab.index.stored.values():  # type: ignore[attr-defined]
        for id, record in records.items():
            if record.metadata["path"] in ("a.py", "b.py"):
                records[id] = record._replace(text="other\n")
    found = result_of(service(lab).verify(None, True))["repos"]
    assert {each["repo"]: (each["counts"], each["repaired"]) for each in found} == {
        "lab": ({"altered": 1}, True),
        "other": ({"altered": 1}, True),
    }
    assert not any(each["counts"] for each in result_of(service(lab).verify(None, False))["repos"])
