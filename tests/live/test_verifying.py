"""Verification while the service runs."""

from __future__ import annotations

import math
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reposyncd.daemon.service import Daemon
from reposyncd.errors import CorruptStoreError, NotFoundError, ReposyncError, UsageError
from reposyncd.model import Record
from reposyncd.store.memory import MemoryIndex
from tests.live.service import Live, live, result_of, until
from tests.support import HANGS_S, later_ns, write


@pytest.fixture
def lab(tmp_path: Path) -> Live:
    lab = live(tmp_path)
    lab.write({"a.py": "one = 1\n", "b/c.py": "two = 2\n"})
    return lab


@pytest.fixture
def daemon(lab: Live) -> Iterator[Daemon]:
    with lab.running() as daemon:
        yield daemon


@pytest.fixture
def other(daemon: Daemon, tmp_path: Path) -> Path:
    """A second repository."""
    root = tmp_path / "other"
    write(root, {"d.py": "three = 3\n"})
    result_of(daemon.sync(str(root), "other", False))
    return root


def records(lab: Live) -> dict[str, Record]:
    """Of the first repository, to be tampered with."""
    assert isinstance(lab.index, MemoryIndex)
    return next(found for found in lab.index.stored.values() if any("a.py" in str(r) for r in found.values()))


def spoil(lab: Live) -> None:
    found = records(lab)
    first = min(found)
    found[first] = found[first]._replace(text="other\n")


def during(lab: Live, monkeypatch: pytest.MonkeyPatch, do: Callable[[], object]) -> None:
    """Does that in the middle of the next comparison."""
    assert lab.index
    read, index = lab.index.records, lab.index
    done: list[bool] = []

    def first(*arguments: Any) -> list[Record]:
        if not done:
            done.append(True)
            do()
        return read(*arguments)

    monkeypatch.setattr(index, "records", first)


@pytest.mark.usefixtures("other")
def test_all_repositories_are_compared_and_the_service_goes_on(lab: Live, daemon: Daemon) -> None:
    found = result_of(daemon.verify(None, False))["repos"]
    assert [(each["repo"], each["records"], each["counts"]) for each in found] == [("lab", 2, {}), ("other", 1, {})]
    assert [each["repo"] for each in result_of(daemon.verify(str(lab.root), False))["repos"]] == ["lab"]
    lab.write({"a.py": "one = 9\n"})
    lab.flush()
    assert any(record.text == "one = 9\n" for record in records(lab).values())
    assert daemon.status()["daemon"]["state"] == "idle"


@pytest.mark.usefixtures("other")
def test_what_is_wrong_is_told_and_made_right_only_when_asked_to(lab: Live, daemon: Daemon) -> None:
    spoil(lab)
    found = result_of(daemon.verify(None, False))["repos"]
    assert [(each["repo"], each["counts"], each["repaired"]) for each in found] == [
        ("lab", {"altered": 1}, False),
        ("other", {}, False),
    ]
    found = result_of(daemon.verify(None, True))["repos"]
    assert {each["repo"]: (each["counts"], each["repaired"]) for each in found} == {
        "lab": ({"altered": 1}, True),
        "other": ({}, False),
    }
    found = result_of(daemon.verify(None, False))["repos"]
    assert not any(each["counts"] for each in found)


def test_a_change_in_the_middle_of_it_is_no_fault_and_is_taken_up_after_it(
    lab: Live, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    during(lab, monkeypatch, lambda: lab.write({"a.py": "one = 9\n", "new.py": "new = 1\n"}))
    [found] = result_of(daemon.verify(None, False))["repos"]
    assert found["counts"] == {}
    lab.until_current()
    lab.assert_current()


def test_a_save_in_the_middle_of_it_of_a_file_that_was_long_unchanged_is_no_fault_either(
    lab: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.now_ns = later_ns  # so that the times of every file are proof
    with lab.running() as daemon:
        during(lab, monkeypatch, lambda: lab.write({"a.py": "one = 9\n"}))
        [found] = result_of(daemon.verify(None, False))["repos"]
        assert (found["counts"], found["pending"]) == ({}, 1)
        lab.until_current()
        lab.assert_current()


def test_status_says_that_it_is_under_way(lab: Live, daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    states, progress = [], []

    may_begin = threading.Event()

    def look() -> None:
        assert may_begin.wait(60)
        states.append(daemon.status()["daemon"]["state"])
        progress.append(work.progress())

    during(lab, monkeypatch, look)
    work = daemon.verify(None, False)
    may_begin.set()
    result_of(work)
    assert states == ["verifying lab"]
    assert [(each["phase"], each["files_total"]) for each in progress] == [("verify", 2)]


def test_what_cannot_be_compared_is_told(lab: Live, daemon: Daemon, other: Path) -> None:
    with pytest.raises(UsageError, match='there is no repository "nobody"'):
        result_of(daemon.verify("nobody", False))
    shutil.rmtree(other)
    until(lambda: any(each["state"] == "missing" for each in daemon.status()["repos"]), "it is noticed")
    found = {each["repo"]: each for each in result_of(daemon.verify(None, False))["repos"]}
    assert str(other) in found["other"]["errors"][0]["error"]
    assert found["lab"]["counts"] == {}


def test_a_store_that_is_damaged_fails_it_and_is_mended_without_being_asked(
    lab: Live, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rot() -> None:
        raise CorruptStoreError("a page is torn")

    during(lab, monkeypatch, rot)
    with pytest.raises(CorruptStoreError, match="is being repaired: a page is torn"):
        result_of(daemon.verify(None, False))
    lab.assert_current()


@pytest.mark.provokes_the_unexpected
def test_an_internal_error_ends_one_comparison_and_is_said_once(
    lab: Live, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise RuntimeError("nobody thought of this")

    during(lab, monkeypatch, fail)
    with pytest.raises(ReposyncError, match="internal error in the comparison"):
        result_of(daemon.verify(None, False))
    daemon.engine.ask(dict).wait(HANGS_S)  # it has come by again
    assert daemon.engine.jobs.verification.due == math.inf
    assert result_of(daemon.verify(None, False))["repos"][0]["counts"] == {}


def test_a_paused_repository_is_compared_and_not_watched_again(lab: Live, daemon: Daemon) -> None:
    result_of(daemon.pause("lab"))
    [found] = result_of(daemon.verify("lab", False))["repos"]
    assert found["counts"] == {}
    assert lab.status()["watch"]["directories"] == 0
    lab.write({"a.py": "one = 9\n"})
    assert lab.status()["state"] == "paused"


def test_a_service_that_stops_ends_it_and_tells_those_who_wait(
    lab: Live, daemon: Daemon, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    during(lab, monkeypatch, daemon.ask_to_stop)
    work = daemon.verify(None, False)
    with pytest.raises(ReposyncError, match="stop"):
        result_of(work)


def test_a_repository_that_is_removed_while_others_are_compared_is_left_out(
    lab: Live, daemon: Daemon, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed = []
    during(lab, monkeypatch, lambda: removed.append(daemon.remove("other")))
    assert [each["repo"] for each in result_of(daemon.verify(None, False))["repos"]] == ["lab"]
    result_of(removed[0])


def test_the_history_is_told_while_the_service_runs(lab: Live, daemon: Daemon, other: Path) -> None:
    runs = daemon.runs(None, 10)["runs"]
    assert [(run["repo"], run["kind"], run["outcome"]) for run in runs] == [
        ("other", "sync", "done"),
        ("lab", "sync", "done"),
    ]
    assert runs[1]["result"]["files"]["new"] == 2
    assert len(daemon.runs("lab", 1)["runs"]) == 1
    with pytest.raises(NotFoundError):
        daemon.runs("nobody", 1)
    for name in ("lab", "other"):
        result_of(daemon.remove(name))
    assert daemon.runs(None, 1) == {"runs": []}
