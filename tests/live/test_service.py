"""What is asked of a service: flush, pause, add, remove, discover; and what it puts first."""

from __future__ import annotations

import http.client
import os
import shutil
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from reposyncd.app import operations
from reposyncd.app.client import connect
from reposyncd.daemon import resources
from reposyncd.daemon.engine import repo_state, schedule, sync_job
from reposyncd.daemon.engine.periodic import missing
from reposyncd.daemon.engine.snapshots import NextSync, RepoSnapshot
from reposyncd.daemon.service import Daemon
from reposyncd.errors import BusyError, ReposyncError, RootMissingError, UsageError
from reposyncd.model import Applied, Batch
from reposyncd.ports import Stage
from reposyncd.store.manifest.database import Database
from reposyncd.store.memory import MemoryIndex
from reposyncd.tree.read import RawFile, _read
from tests.live.service import FAST, Live, live, many, result_of, until
from tests.support import later_ns, memory_index, write


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Live:
    monkeypatch.setattr(repo_state, "MISSING_S", 0.1)
    lab = live(tmp_path)
    lab.write({"a.py": "one = 1\n", "b/c.py": "two = 2\n"})
    return lab


@pytest.fixture
def daemon(lab: Live) -> Iterator[Daemon]:
    with lab.running() as daemon:
        yield daemon


class Slow(MemoryIndex):
    """An index in which storing many chunks waits until it is let go on."""

    def __init__(self) -> None:
        super().__init__(memory_index()._embed)
        self.may_go_on = threading.Event()
        self.began = threading.Event()
        self.batches: list[list[str]] = []
        self.first: set[str] = set()
        """paths of the first batch that waited"""

    def apply(self, collection: str, batch: Batch) -> Future[Applied]:
        if len(batch.added) > 100:
            self.first = self.first or {chunk.row.path for chunk in batch.added}
            self.began.set()
            assert self.may_go_on.wait(60)
        self.batches.append([chunk.row.path for chunk in batch.added])
        return super().apply(collection, batch)


# Flush ------------------------------------------------------------------------------------------------------


def test_a_flush_does_not_wait_for_changes_to_settle(tmp_path: Path) -> None:
    lab = live(tmp_path, REPOSYNCD_WATCH__SETTLE="60", REPOSYNCD_WATCH__MAX_WAIT="600")
    lab.write({"a.py": "one = 1\n"})
    with lab.running():
        for number in range(20):
            lab.write({"a.py": f"one = {number}\n", f"new{number}/x.py": f"x = {number}\n"})
            lab.flush()
            assert lab.text_of("a.py") == f"one = {number}\n"
            assert lab.text_of(f"new{number}/x.py") == f"x = {number}\n"
        lab.assert_current()


def test_a_flush_without_changes_does_nothing(lab: Live, daemon: Daemon) -> None:
    lab.until_current()
    before = lab.status()["synced_at"]
    assert lab.flush() == {"repos": ["lab"], "errors": []}
    assert lab.status()["synced_at"] == before


def test_a_flush_waits_for_the_first_index(tmp_path: Path) -> None:
    lab = live(tmp_path)
    lab.index = index = Slow()
    lab.write(many(300))
    daemon = lab.start()
    try:
        daemon.add(str(lab.root), "lab")
        until(index.began.is_set, "the first index began")
        flush = daemon.flush(None)
        assert not flush.wait(0)
        [pending] = flush.progress()["pending"]
        assert pending["repo"] == "lab"
        index.may_go_on.set()
        result_of(flush)
        lab.assert_equals_an_index_built_from_scratch()
    finally:
        index.may_go_on.set()
        lab.stop()


def test_a_flush_names_the_files_that_could_not_be_read(
    lab: Live, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reposyncd.tree.read._read", _unreadable)
    lab.write({"a.py": "one = 7\n"})
    result = lab.flush()
    assert result["errors"] == [{"path": "a.py", "error": "cannot be read: Input/output error"}]


def _unreadable(fd: int, path: str, limit: int) -> object:
    raise OSError(5, "Input/output error")


def test_a_flush_of_what_is_not_there_or_paused_says_so(lab: Live, daemon: Daemon) -> None:
    with pytest.raises(UsageError, match='no repository "other"'):
        result_of(daemon.flush("other"))
    result_of(daemon.pause("lab"))
    with pytest.raises(UsageError, match="reposyncd resume lab"):
        result_of(daemon.flush("lab"))
    assert lab.flush() == {"repos": [], "errors": []}


# What goes first --------------------------------------------------------------------------------------------


def test_a_save_goes_before_a_long_first_index(lab: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In another repository, and in the one that is being indexed."""
    monkeypatch.setattr(sync_job, "LONG_AT_LEAST_S", 0.0)
    monkeypatch.setattr(sync_job, "CHECK_S", 0.0)
    monkeypatch.setattr("reposyncd.sync.pipeline.BATCH_CHUNKS", 150)
    lab.index = index = Slow()
    large = tmp_path / "large"
    write(large, {f"{number % 2}/f{number}.txt": f"large {number}\n" for number in range(2000)})
    with lab.running() as daemon:
        daemon.add(str(large), "large")
        until(index.began.is_set, "the first index began")
        lab.write({"a.py": "one = 9\n"})
        late = "0/f0.txt" if any(path.startswith("1/") for path in index.first) else "1/f1.txt"
        write(large, {late: "saved meanwhile\n"})
        repos = daemon.engine.registry._repos
        until(lambda: len(repos["lab"].changes) and len(repos["large"].changes), "both saves are noticed")
        until(lambda: all(repos[name].changes.due() < time.monotonic() for name in repos), "both are due")  # type: ignore[operator]
        index.may_go_on.set()
        until(lambda: snapshot(daemon, "large").is_indexed, "the first index is complete")
        order = [path for batch in index.batches for path in batch]
        assert order.index("a.py", 2) < len(order) - 500
        assert order.index(late) < len(order) - 500
        assert len(order) == 2000 + 3
    with lab.workspace() as workspace:
        runs = operations.history(workspace, "large", 10)
        assert [run.outcome for _, run in runs] == ["done"]
        result = runs[0][1].result
        assert result
        assert result["chunks"]["added"] <= 1999  # the save, and what lay beside it, was done before
        assert runs[0][1].files_done == runs[0][1].files_total


def test_a_full_sync_that_saves_are_put_before_goes_on_where_it_was_and_is_one_run(
    lab: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync_job, "LONG_SHARE", 0)
    monkeypatch.setattr(sync_job, "CHECK_S", 0.0)
    lab.now_ns = later_ns  # so that the times of every file are proof
    lab.write({f"many/{number}.txt": f"{number}\n" for number in range(300)})
    other = lab.root.parent / "other"
    write(other, {"log.txt": "0\n"})
    size = sum(path.stat().st_size for path in lab.root.rglob("*") if path.is_file())
    with lab.running() as daemon:
        result_of(daemon.sync(str(other), "other", False))
        reads = 0

        def busy(fd: int, path: str, limit: int) -> RawFile:
            """Now and then somebody saves something."""
            nonlocal reads
            reads += path.startswith("many/")
            if path.startswith("many/") and reads % 70 == 0:
                write(other, {"log.txt": f"{reads}\n"})
                daemon.engine.registry.hint(str(other), "", False, time.monotonic() - 60)
            return _read(fd, path, limit)

        monkeypatch.setattr("reposyncd.tree.read._read", busy)
        result = result_of(daemon.sync(str(lab.root), None, True))
        assert result["bytes_read"] == size
        assert reads == 300
        assert texts(lab, "other") == ["280\n"]
        runs = daemon.runs("lab", 10)["runs"]
        assert [(run["kind"], run["outcome"]) for run in runs] == [("full", "done"), ("sync", "done")]


def test_a_save_does_not_wait_for_the_manifest_to_be_read_because_a_run_that_it_was_put_before_has_not_ended(
    lab: Live, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_it_all(manifest: Database) -> None:
        raise AssertionError("that takes a second for each gigabyte")

    with sqlite3.connect(lab.state / "manifest.db") as manifest:
        manifest.execute("UPDATE run SET outcome = 'running'")
    manifest.close()
    monkeypatch.setattr(Database, "check", read_it_all)
    lab.write({"a.py": "one = 9\n"})
    lab.assert_current()


def test_a_long_index_waits_for_memory_and_saves_do_not(lab: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "RESOURCE_CHECK_S", 0.05)
    reasons: list[str | None] = [None]
    monkeypatch.setattr("reposyncd.daemon.resources.ResourceGate.reason_to_wait", lambda self: reasons[0])
    with lab.running() as daemon:
        reasons[0] = "memory is short"
        daemon.engine.gate._next_check = 0.0
        other = lab.root.parent / "other"
        write(other, {"x.py": "x = 1\n"})
        result_of(daemon.add(str(other), "other"))
        until(lambda: daemon.status()["daemon"]["waits_for"] == "memory is short", "it waits, and says so")
        assert daemon.status()["repos"][1]["state"] == "pending"
        lab.write({"a.py": "one = 8\n"})
        until(lambda: "one = 8\n" in texts(lab, "lab"), "a save is taken up")
        assert not texts(lab, "other")
        reasons[0] = None
        until(lambda: texts(lab, "other") == ["x = 1\n"], "and the index when it may")


def test_a_sync_that_somebody_waits_for_does_not_wait_for_the_battery(
    lab: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reposyncd.daemon.resources.ResourceGate.reason_to_wait", lambda self: "on battery")
    daemon = lab.start()
    try:
        assert result_of(daemon.sync(str(lab.root), "lab", False))["files"]["total"] == 2
        lab.assert_current()
    finally:
        lab.stop()


def test_a_first_index_that_waits_for_the_battery_continues_when_somebody_asks_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "RESOURCE_CHECK_S", 0.05)
    monkeypatch.setattr(sync_job, "LONG_AT_LEAST_S", 0.0)
    monkeypatch.setattr(sync_job, "LONG_SHARE", 0)
    monkeypatch.setattr(sync_job, "CHECK_S", 0.0)
    monkeypatch.setattr("reposyncd.sync.pipeline.BATCH_CHUNKS", 150)
    reasons: list[str | None] = [None]
    monkeypatch.setattr("reposyncd.daemon.resources.ResourceGate.reason_to_wait", lambda self: reasons[0])
    lab = live(tmp_path)
    lab.index = index = Slow()
    lab.write(many(1000))
    daemon = lab.start()
    try:
        daemon.add(str(lab.root), "lab")
        until(index.began.is_set, "the first index began")
        reasons[0] = "on battery"
        index.may_go_on.set()
        until(lambda: lab.status()["state"] == "pending", "it waits")
        assert 0 < len(lab.records()) < 1000
        assert result_of(daemon.sync(str(lab.root), "lab", False))["files"]["total"] == 1000
    finally:
        index.may_go_on.set()
        lab.stop()


def test_a_full_scan_that_continues_has_its_time_before_it_makes_way_again(
    lab: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise one that takes long to continue would never come to an end."""
    monkeypatch.setattr(sync_job, "LONG_SHARE", 0)
    monkeypatch.setattr(sync_job, "LONG_AT_LEAST_S", 0.0)
    monkeypatch.setattr(sync_job, "CHECK_S", 0.0)
    lab.now_ns = later_ns
    lab.write({f"many/{number}.txt": f"{number}\n" for number in range(300)})
    other = lab.root.parent / "other"
    write(other, {"log.txt": "0\n"})
    with lab.running() as daemon:
        result_of(daemon.sync(str(other), "other", False))
        jobs: list[str] = []
        later_s = 0.0
        clock = SimpleNamespace(monotonic=lambda: time.monotonic() + later_s, sleep=time.sleep)
        monkeypatch.setattr(sync_job, "time", clock)
        run = daemon.engine.jobs.sync.run

        def counted(next_sync: NextSync) -> None:
            jobs.append(next_sync.repo)
            if jobs.count("lab") == 2:  # an hour later
                nonlocal later_s
                later_s = 3600.0
                monkeypatch.setattr(sync_job, "LONG_SHARE", 1)
                monkeypatch.setattr(sync_job, "LONG_AT_LEAST_S", 60.0)
            run(next_sync)

        def busy(fd: int, path: str, limit: int) -> RawFile:
            if path.startswith("many/"):
                daemon.engine.registry.hint(str(other), "", False, time.monotonic() - 60)
            return _read(fd, path, limit)

        monkeypatch.setattr(daemon.engine.jobs.sync, "run", counted)
        monkeypatch.setattr("reposyncd.tree.read._read", busy)
        result_of(daemon.sync(str(lab.root), None, True))
        assert jobs.count("lab") == 2


def test_small_work_that_never_ends_does_not_keep_a_first_index_from_being_made(
    lab: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "STARVED_S", 0.2)
    with lab.running() as daemon:
        engine = daemon.engine
        stopped = threading.Event()
        run = engine.jobs.sync.run

        def busy(next_sync: NextSync) -> None:
            """There is something due again as soon as a job has ended."""
            run(next_sync)
            if not stopped.is_set():
                engine.registry.hint(str(lab.root), "", False, time.monotonic() - 60)

        monkeypatch.setattr(engine.jobs.sync, "run", busy)
        lab.write({"a.py": "one = 10\n"})
        other = lab.root.parent / "other"
        write(other, {"x.py": "x = 1\n"})
        result_of(daemon.add(str(other), "other"))
        until(lambda: texts(lab, "other") == ["x = 1\n"], "it is indexed all the same")
        stopped.set()


def test_what_a_first_index_has_stored_so_far_can_be_searched(tmp_path: Path) -> None:
    lab = live(tmp_path)
    lab.index = index = Slow()
    lab.write({f"f{number}.txt": "word " * 5 + f"n{number}\n" for number in range(1500)})
    daemon = lab.start()
    try:
        daemon.add(str(lab.root), "lab")
        until(index.began.is_set, "it began")
        until(lambda: lab.status()["collection"], "its collection is there")
        assert result_of(daemon.search("word", None, 5))["hits"] == []
        index.may_go_on.set()
        until(lambda: result_of(daemon.search("word", None, 5))["hits"], "something is found")
    finally:
        index.may_go_on.set()
        lab.stop()


def texts(lab: Live, name: str) -> list[str]:
    with lab.workspace() as workspace:
        [repo] = [repo for repo in workspace.catalog.repos() if repo.name == name]
        return [
            record.text
            for generation in workspace.catalog.generations(repo)
            if generation.state == "serving" and generation.collection in lab.index.collections()
            for record in lab.index.records(generation.collection)
        ]


def test_while_git_is_at_work_a_change_is_never_taken_up_too_late(tmp_path: Path) -> None:
    lab = live(tmp_path, REPOSYNCD_WATCH__SETTLE="0.05", REPOSYNCD_WATCH__MAX_WAIT="0.2")
    subprocess.run(["git", "init", "-q", str(lab.root)], check=True)
    lab.write({"a.py": "one = 1\n"})
    with lab.running():
        lab.write({".git/index.lock": ""})
        lab.write({"a.py": "one = 2\n"})
        until(lambda: lab.text_of("a.py") == "one = 2\n", "taken up although the lock stays")
        lab.assert_current()


def test_a_git_checkout_of_many_files_there_and_back(tmp_path: Path) -> None:
    lab = live(tmp_path)
    git = ["git", "-C", str(lab.root), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q", "-b", "one"], check=True)
    lab.write(many(400))
    subprocess.run([*git, "add", "-A"], check=True)
    subprocess.run([*git, "commit", "-qm", "one"], check=True)
    subprocess.run([*git, "checkout", "-qb", "two"], check=True)
    shutil.rmtree(lab.root / "d3")
    lab.write({**many(200, lambda number: f"second {number}\n"), "e/new.py": "x = 1\n"})
    subprocess.run([*git, "add", "-A"], check=True)
    subprocess.run([*git, "commit", "-qm", "two"], check=True)
    with lab.running():
        for branch in ("one", "two", "one"):
            subprocess.run([*git, "checkout", "-q", branch], check=True)
            lab.assert_current()
        subprocess.run([*git, "checkout", "-q", "two"], check=True)
        subprocess.run([*git, "rebase", "-q", "one"], check=True)
        lab.assert_current()


# Many repositories ------------------------------------------------------------------------------------------


def test_a_paused_repository_is_left_as_it_is_across_a_restart_and_taken_up_again(lab: Live) -> None:
    with lab.running() as daemon:
        result_of(daemon.pause("lab"))
        before = lab.records()
        lab.write({"a.py": "one = 2\n"})
        assert lab.status()["state"] == "paused"
    lab.start()
    try:
        assert lab.status()["state"] == "paused"
        assert lab.daemon
        result_of(lab.daemon.flush(None))
        assert lab.records() == before
        result_of(lab.daemon.resume(None))
        lab.assert_current()
        lab.write({"b/c.py": "two = 3\n"})
        until(lambda: lab.text_of("b/c.py") == "two = 3\n", "watched again")
    finally:
        lab.stop()


def test_a_restart_embeds_nothing_and_does_not_even_open_the_store(lab: Live) -> None:
    with lab.running():
        lab.write(many(100))
        lab.assert_current()
        registry = lab.daemon.engine.registry  # type: ignore[union-attr]
        until(lambda: not len(registry._repos["lab"].recheck), "it has looked once more")
        lab.until_current()
    index, lab.index = lab.index, Untouchable()
    daemon = lab.start()
    try:
        result_of(daemon.flush(None))
        assert lab.status()["state"] == "current"
    finally:
        lab.stop()
    lab.index = index
    lab.assert_equals_an_index_built_from_scratch()


class Untouchable(MemoryIndex):
    """An index that nobody may open."""

    def __init__(self) -> None:
        super().__init__(memory_index()._embed)

    def open(self, collection: str, metadata: object) -> int:
        raise AssertionError("there was nothing to do")


def test_changes_made_while_the_service_was_down_are_found_at_its_start(lab: Live) -> None:
    with lab.running():
        pass
    lab.write({"a.py": None, "b/c.py": "two = 4\n", "new/d.py": "three = 3\n"})
    lab.start()
    try:
        lab.assert_current()
        assert lab.paths() == {"b/c.py", "new/d.py"}
    finally:
        lab.stop()


def test_a_service_that_is_stopped_in_a_first_index_goes_on_from_there(tmp_path: Path) -> None:
    lab = live(tmp_path)
    lab.index = index = Slow()
    lab.write(many(1500))
    daemon = lab.start()
    daemon.add(str(lab.root), "lab")
    until(index.began.is_set, "it began")
    daemon.ask_to_stop()
    index.may_go_on.set()
    lab.stop()
    stored = len(lab.records())
    assert 0 < stored < 1500
    index.batches.clear()
    lab.start()
    try:
        lab.assert_current()
        assert sum(map(len, index.batches)) == 1500 - stored
    finally:
        lab.stop()


def test_what_is_removed_is_forgotten_with_its_collection_and_can_be_added_again(lab: Live, daemon: Daemon) -> None:
    collection = lab.status()["collection"]
    assert result_of(daemon.remove("lab")) == {"name": "lab", "root": str(lab.root)}
    assert daemon.status()["repos"] == []
    until(lambda: collection not in lab.index.collections(), "its collection is dropped")
    lab.write({"a.py": "one = 5\n"})
    result_of(daemon.add(str(lab.root), "lab"))
    lab.assert_current()


def test_the_same_root_twice_is_the_same_repository(lab: Live, daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(lab.root)
    assert result_of(daemon.add(str(tmp_path / "link"), None))["name"] == "lab"
    with pytest.raises(UsageError, match='already indexed, under the name "lab"'):
        result_of(daemon.add(str(lab.root), "other"))
    assert len(daemon.status()["repos"]) == 1


def test_roots_that_overlap_are_refused_unless_the_outer_one_ignores_the_inner(lab: Live, daemon: Daemon) -> None:
    with pytest.raises(UsageError, match=r'is inside the repository "lab".*reposyncd repo remove lab'):
        result_of(daemon.add(str(lab.root / "b"), None))
    with pytest.raises(UsageError, match=r'contains the repository "lab"'):
        result_of(daemon.add(str(lab.root.parent), None))
    lab.write({".gitignore": "worktrees/\n", "worktrees/x/y.py": "y = 1\n"})
    lab.flush()
    result_of(daemon.add(str(lab.root / "worktrees" / "x"), None))
    result_of(daemon.flush(None))
    assert texts(lab, "x") == ["y = 1\n"]
    write(lab.root, {"worktrees/x/y.py": "y = 2\n"})
    result_of(daemon.flush(None))
    assert texts(lab, "x") == ["y = 2\n"]


def test_a_root_that_is_not_there_cannot_be_added(lab: Live, daemon: Daemon) -> None:
    with pytest.raises(RootMissingError, match="does not exist"):
        result_of(daemon.add(str(lab.root / "nowhere"), None))


def test_the_index_of_a_missing_repository_is_dropped_after_the_days_that_are_configured_and_not_before(
    lab: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(missing, "DAY_S", 1.0)
    lab.variables["REPOSYNCD_WATCH__FORGET_AFTER"] = "100"
    with lab.running() as daemon:
        shutil.rmtree(lab.root)
        until(lambda: lab.status()["state"] == "missing", "missing")
        for seconds, left in ((60, 1), (30, 1), (20, 0)):
            last_s = time.monotonic() - seconds
            daemon.engine.registry.change("lab", lambda state, last_s=last_s: state.count_missing(last_s))  # type: ignore[misc]
            do(daemon, daemon.engine.jobs.missing.run)
            assert len(daemon.status()["repos"]) == left
            if left:
                lab.stop_and_start_again()
                daemon = lab.daemon  # type: ignore[assignment]
                until(lambda: lab.status()["state"] == "missing", "missing again")
        until(lambda: lab.index.collections() == {}, "its collection is dropped")


def snapshot(daemon: Daemon, name: str) -> RepoSnapshot:
    found = daemon.engine.registry.find(name)
    assert found
    return found


def do(daemon: Daemon, task: Callable[[], None]) -> None:
    """Has the engine do it now."""

    def command() -> dict[str, object]:
        task()
        return {}

    result_of(daemon.engine.ask(command))


def test_the_days_of_a_repository_that_is_paused_are_not_counted(
    lab: Live, daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(missing, "DAY_S", 1e-6)
    lab.root.rename(tmp_path / "away")
    until(lambda: lab.status()["state"] == "missing", "it is missing")
    result_of(daemon.pause("lab"))
    (tmp_path / "away").rename(lab.root)
    do(daemon, daemon.engine.jobs.missing.run)
    assert lab.status()["state"] == "paused"
    result_of(daemon.resume("lab"))
    lab.assert_current()


def test_a_repository_that_comes_back_has_not_been_missing(lab: Live, daemon: Daemon) -> None:
    lab.root.rename(lab.root.with_name("away"))
    until(lambda: lab.status()["state"] == "missing", "missing")
    do(daemon, daemon.engine.jobs.missing.run)
    lab.root.with_name("away").rename(lab.root)
    lab.until_current()
    with lab.workspace() as workspace:
        [repo] = workspace.catalog.repos()
        assert repo.missing_s == 0


def test_a_second_service_on_the_same_state_is_told_who_is_first(lab: Live, daemon: Daemon) -> None:
    second = Live(lab.root, lab.state, index=memory_index(), variables=FAST | {"REPOSYNCD_LOCK__TIMEOUT": "0.1"})
    with pytest.raises(BusyError, match=str(os.getpid())):
        second.start()
    lab.assert_current()


# Discovery --------------------------------------------------------------------------------------------------


def clone(place: Path, nodes: dict[str, str]) -> Path:
    subprocess.run(["git", "init", "-q", str(place)], check=True)
    write(place, nodes)
    return place.resolve()


@pytest.fixture
def finder(tmp_path: Path) -> Iterator[Live]:
    clone(tmp_path / "src" / "app", {"a.py": "app = 1\n"})
    clone(tmp_path / "src" / "deep" / "lib", {"a.py": "lib = 1\n"})
    lab = live(
        tmp_path,
        REPOSYNCD_DISCOVER__ROOTS=f'["{tmp_path}/src"]',
        REPOSYNCD_DISCOVER__INTERVAL="1",
        REPOSYNCD_DISCOVER__EXCLUDE='["vendor/"]',
    )
    lab.start()
    yield lab
    lab.stop()


def names(lab: Live) -> set[str]:
    assert lab.daemon
    return {repo["name"] for repo in lab.daemon.status()["repos"]}


def test_repositories_are_discovered_at_the_start_and_later(finder: Live, tmp_path: Path) -> None:
    until(lambda: names(finder) == {"app", "lib"}, "found at the start")
    clone(tmp_path / "src" / "new", {"a.py": "new = 1\n"})
    clone(tmp_path / "src" / "other" / "app", {"a.py": "other = 1\n"})
    clone(tmp_path / "src" / "vendor" / "thing", {"a.py": "thing = 1\n"})
    clone(tmp_path / "src" / "app" / "inner", {"a.py": "inner = 1\n"})
    until(lambda: names(finder) == {"app", "lib", "new", "other-app"}, f"found later: {names(finder)}")
    finder.flush()
    assert texts(finder, "new") == ["new = 1\n"]


def test_what_was_removed_is_not_discovered_again(finder: Live) -> None:
    until(lambda: names(finder) == {"app", "lib"}, "found at the start")
    assert finder.daemon
    result_of(finder.daemon.remove("app"))
    do(finder.daemon, finder.daemon.engine.jobs.discovery.run)
    assert names(finder) == {"lib"}
    [root] = [repo["root"] for repo in finder.daemon.status()["repos"]]
    result_of(finder.daemon.add(str(Path(root).parent.parent / "app"), None))
    assert names(finder) == {"app", "lib"}


def test_the_metrics_say_how_long_the_stages_of_syncing_took(lab: Live, daemon: Daemon) -> None:
    lab.write({"a.py": "one = 3\n"})
    lab.flush()
    found = {
        (sample.name, sample.labels["stage"]): sample.value
        for family in text_string_to_metric_families(metrics(lab))
        for sample in family.samples
        if sample.labels.get("repo") == "lab" and "stage" in sample.labels
    }
    assert all(found["reposyncd_stage_seconds_total", stage] > 0 for stage in Stage)
    items = {stage: found["reposyncd_stage_items_total", stage] for stage in Stage}
    assert items[Stage.SCAN] >= 2
    assert [items[stage] for stage in (Stage.READ, Stage.CHUNK, Stage.EMBED, Stage.STORE)] == [3, 3, 3, 3]
    assert items[Stage.COMMIT] == 4  # the old chunk of the file that changed is deleted


def metrics(lab: Live) -> str:
    """What the API answers to Prometheus."""
    connection = http.client.HTTPConnection("reposyncd")
    connection.sock = connect(lab.config().socket)
    with closing(connection):
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()


@pytest.mark.provokes_the_unexpected
def test_a_command_that_fails_leaves_the_engine_alive(lab: Live, daemon: Daemon) -> None:
    def broken() -> dict[str, object]:
        raise ZeroDivisionError("a bug")

    with pytest.raises(ReposyncError, match="internal error in a command"):
        result_of(daemon.engine.ask(broken))
    lab.assert_current()
