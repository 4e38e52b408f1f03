"""What the kernel drops, refuses or never reports is made good."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reposyncd.daemon.engine import repo_state
from reposyncd.daemon.engine.periodic import roots
from reposyncd.daemon.engine.snapshots import RepoSnapshot
from tests.crash.faults import root_only
from tests.live.service import Live, live, many, until


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Live]:
    monkeypatch.setattr(repo_state, "MISSING_S", 0.1)
    lab = live(tmp_path)
    lab.write({"a.py": "one = 1\n", "b/c.py": "two = 2\n"})
    with lab.running():
        yield lab


def test_a_hint_that_raises_ends_the_reader_and_the_next_one_takes_over(
    lab: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lab.daemon
    watches = lab.daemon.engine.watching._watches
    assert watches

    def broken(root: str, path: str, recursive: bool) -> None:
        raise RuntimeError("a handler that is broken")

    monkeypatch.setattr(watches, "_on_hint", broken)
    lab.write({"a.py": "one = 11\n"})
    until(lambda: lab.text_of("a.py") == "one = 11\n", "found without the event")
    lab.until_current()
    assert lab.daemon.status()["daemon"]["events_lost"] == 1
    lab.write({"b/c.py": "two = 22\n"})
    until(lambda: lab.text_of("b/c.py") == "two = 22\n", "the new reader sees events")
    lab.assert_current()


def test_an_overflow_is_made_good_and_the_watches_are_kept(lab: Live) -> None:
    assert lab.daemon
    with open("/proc/sys/fs/inotify/max_queued_events") as file:
        queue = int(file.read())
    if queue > 100_000:
        pytest.skip(f"the queue of this machine holds {queue:,} events")
    before = lab.status()["watch"]["directories"]
    with lab.daemon.engine.registry._lock:  # the reader cannot hand over its hints
        lab.write({"trigger.txt": "the reader waits for the lock now\n"})
        for number in range(queue // 2 + 1000):  # each is created and closed
            (lab.root / f"f{number}.tmp").touch()
            (lab.root / f"f{number}.tmp").unlink()
        lab.write({"b/c.py": "two = 3\n", "late/d.py": "x = 1\n"})
    until(lambda: lab.text_of("b/c.py") == "two = 3\n", "found without the event")
    lab.until_current()
    assert lab.daemon.status()["daemon"]["events_lost"] >= 1
    assert lab.status()["watch"]["directories"] == before + 1
    lab.write({"late/d.py": "x = 2\n"})
    until(lambda: lab.text_of("late/d.py") == "x = 2\n", "the directory that was made meanwhile is watched")
    lab.assert_current()


def test_a_root_that_is_deleted_is_missing_and_comes_back(lab: Live) -> None:
    before = lab.records()
    shutil.rmtree(lab.root)
    until(lambda: lab.status()["state"] == "missing", "missing")
    assert lab.records().keys() <= before.keys()
    lab.root.mkdir()
    lab.write({"a.py": "one = 1\n", "other.py": "other = 1\n"})
    lab.until_current()
    lab.write({"b/c.py": "two = 2222\n"})
    until(lambda: "b/c.py" in lab.paths(), "it is watched again")
    lab.assert_current()


def test_a_root_that_is_moved_away_is_missing_and_keeps_its_index(lab: Live, tmp_path: Path) -> None:
    before = lab.records()
    lab.root.rename(tmp_path / "elsewhere")
    until(lambda: lab.status()["state"] == "missing", "missing")
    assert lab.records() == before
    (tmp_path / "elsewhere" / "a.py").write_text("one = 111\n")
    (tmp_path / "elsewhere").rename(lab.root)
    lab.until_current()
    lab.assert_current()
    assert lab.text_of("a.py") == "one = 111\n"


@root_only
def test_a_root_that_is_unmounted_keeps_its_index_and_is_current_when_it_is_mounted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repo_state, "MISSING_S", 0.1)
    monkeypatch.setattr(roots, "ROOTS_S", 0.1)  # no event tells of a lazy unmount
    lab = live(tmp_path)
    source = tmp_path / "source"
    source.mkdir()
    mount = ["mount", "--bind", str(source), str(lab.root)]
    subprocess.run(mount, check=True)
    try:
        lab.write({"a.py": "one = 1\n", "b/c.py": "two = 2\n"})
        with lab.running():
            before = lab.records()
            subprocess.run(["umount", "-l", str(lab.root)], check=True)
            (source / "a.py").write_text("one = 2\n")
            until(lambda: lab.status()["state"] == "missing", "missing")
            assert lab.records() == before
            subprocess.run(mount, check=True)
            lab.until_current()
            lab.assert_current()
            assert lab.text_of("a.py") == "one = 2\n"
    finally:
        subprocess.run(["umount", "-l", str(lab.root)], check=False)


def test_what_gives_no_event_is_found_by_the_next_look_at_the_whole(lab: Live, tmp_path: Path) -> None:
    """Here through a hard link outside of the tree."""
    assert lab.daemon
    (tmp_path / "outside.py").hardlink_to(lab.root / "a.py")
    lab.flush()
    with open(tmp_path / "outside.py", "w") as file:
        file.write("one = 12345\n")
    lab.daemon.engine.registry.change_all(lambda state: state.scan_soon(time.monotonic()))
    until(lambda: lab.text_of("a.py") == "one = 12345\n", "found")
    lab.assert_current()


def test_after_the_machine_was_asleep_everything_is_looked_at(lab: Live) -> None:
    assert lab.daemon
    engine = lab.daemon.engine
    lab.until_current()

    def snapshot() -> RepoSnapshot:
        return engine.registry.named("lab")[0]

    until(lambda: snapshot().full_scan_due > time.monotonic() + 60, "the next look is far away")
    before = snapshot().synced_at
    engine._suspend._gap -= 3600
    engine.registry.wake()
    until(lambda: snapshot().synced_at != before, "it has looked")
    lab.assert_current()


@pytest.mark.parametrize("jump_s", [-86_400 * 365, -3600, -1, 1, 3600, 86_400 * 365])
def test_a_clock_that_jumps_loses_no_change(tmp_path: Path, jump_s: int) -> None:
    ahead_ns = 0
    lab = live(tmp_path)
    lab.now_ns = lambda: time.time_ns() + ahead_ns
    lab.write(many(20))
    with lab.running():
        for number in range(3):
            lab.write({"a.py": f"before = {number}\n"})
            lab.flush()
            ahead_ns += jump_s * 1_000_000_000
            lab.write({"a.py": f"after_ = {number}\n", "d1/f1.txt": f"{number}\n"})
            lab.assert_current()
        stat = os.stat(lab.root / "a.py")
        lab.write({"a.py": "after_ = 9\n"})
        os.utime(lab.root / "a.py", ns=(stat.st_atime_ns, stat.st_mtime_ns + jump_s * 1_000_000_000))
        lab.assert_current()
        assert lab.text_of("a.py") == "after_ = 9\n"


def test_where_others_write_to_the_file_system_it_is_polled_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blind: list[str | None] = ["it is on nfs4, where changes by other machines cause no event"]
    monkeypatch.setattr("reposyncd.daemon.engine.watching.blind_spot", lambda root: blind[0])
    lab = live(tmp_path, REPOSYNCD_WATCH__POLL="1")
    lab.write({"a.py": "one = 1\n"})
    with lab.running():
        found = lab.status()
        assert (found["state"], found["watch"]["mode"]) == ("degraded", "poll")
        assert found["reason"] == f"{lab.root}: {blind[0]}"
        lab.write({"a.py": "one = 2\n"})
        until(lambda: lab.text_of("a.py") == "one = 2\n", "what is changed here gives an event all the same")
        (tmp_path / "another machine").hardlink_to(lab.root / "a.py")
        lab.flush()
        (tmp_path / "another machine").write_text("one = 333\n")  # gives none
        until(lambda: lab.text_of("a.py") == "one = 333\n", "found by looking")
        blind[0] = None
        until(lambda: lab.status()["watch"]["mode"] == "inotify", "it heals")
        lab.until_current()
        lab.assert_current()
