"""A file that takes for ever to be cut, and the work beside it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reposyncd.chunking import process as processes
from reposyncd.chunking import verdict
from reposyncd.chunking.pool import ChunkingPool
from reposyncd.daemon.service import Daemon
from tests.corpus import CORPUS, folded
from tests.live.service import Live, live, many, result_of, until
from tests.support import later_ns

STALLS = folded("<li><p><td><font>", 1_000_000)


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Live:
    monkeypatch.setattr(processes, "HANG_S", 1e6)  # what is stopped here hangs until it is told to go on
    lab = live(tmp_path)
    lab.write({"a.py": "one = 1\n", **many(50)})
    return lab


def pool_of(daemon: Daemon) -> ChunkingPool:
    pool = daemon.engine.workspace.processes.chunker
    assert isinstance(pool, ChunkingPool)
    return pool


@contextmanager
def stopped(daemon: Daemon, path: str) -> Iterator[int]:
    """The process that cuts that file is, for as long as it lasts."""
    pool, found = pool_of(daemon), 0
    until(lambda: path in pool.busy.values(), f"{path} is being cut")
    [found] = [pid for pid, each in pool.busy.items() if each == path]
    os.kill(found, signal.SIGSTOP)
    try:
        yield found
        assert pool.busy[found] == path
    finally:
        os.kill(found, signal.SIGCONT)


def test_a_save_is_found_while_a_file_beside_it_is_still_being_cut(lab: Live) -> None:
    with lab.running() as daemon:
        lab.write({"poison.html": STALLS})
        with stopped(daemon, "poison.html"):
            for number in range(3):
                lab.write({"saved.py": f"saved = {number}\n"})
                until(lambda number=number: lab.text_of("saved.py") == f"saved = {number}\n", "the save is found")  # type: ignore[misc]
            assert lab.status()["state"] != "current"  # it is told that something is left to do
            assert "poison.html" not in lab.paths()
        lab.flush()
        assert lab.text_of("poison.html") == STALLS
        [verdict] = lab.status()["verdicts"]
        assert (verdict["path"], verdict["is_indexed"]) == ("poison.html", True)
        assert "CPU time" in verdict["reason"]
        lab.until_current()


def test_a_save_is_found_while_a_first_index_waits_for_a_file(lab: Live) -> None:
    lab.write({"0.html": STALLS})
    daemon = lab.start()
    try:
        result_of(daemon.add(str(lab.root), "lab"))
        with stopped(daemon, "0.html"):
            until(lambda: "a.py" in lab.paths(), "what could be cut is found")
            lab.write({"saved.py": "saved = 1\n"})
            until(lambda: lab.text_of("saved.py") == "saved = 1\n", "the save is found")
        lab.flush()
        assert lab.text_of("0.html") == STALLS
    finally:
        lab.stop()


def test_a_save_is_found_beside_more_poison_than_there_are_processes(lab: Live) -> None:
    poison = {f"{number}.html": STALLS + str(number) for number in range(6)}
    with lab.running() as daemon:
        lab.write(poison)
        until(lambda: pool_of(daemon).busy, "something is being cut")
        lab.write({"saved.py": "saved = 1\n"})
        until(lambda: lab.text_of("saved.py") == "saved = 1\n", "the save is found")
        assert lab.paths().isdisjoint(poison) or len(lab.paths() & poison.keys()) < len(poison)
        lab.flush()
        assert lab.paths() >= poison.keys()
        assert {each["path"] for each in lab.status()["verdicts"]} == poison.keys()


def test_the_service_stops_while_a_file_is_being_cut_and_its_processes_end_with_it(lab: Live) -> None:
    with lab.running() as daemon:
        pool = pool_of(daemon)
        lab.write({"poison.html": STALLS})
        until(lambda: "poison.html" in pool.busy.values(), "it is being cut")
        [pid] = [pid for pid, each in pool.busy.items() if each == "poison.html"]
        os.kill(pid, signal.SIGSTOP)
    assert pool.pids == []


def test_a_chunking_process_that_dies_is_told_and_costs_nothing(lab: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdict, "LEAST_S", verdict.MOST_S)  # it crashes a moment before its limit
    with lab.running() as daemon:
        lab.write({"crash.c": CORPUS["crash/strings.c"], "b.py": "two = 2\n"})
        lab.flush()
        assert lab.text_of("b.py") == "two = 2\n"
        assert lab.text_of("crash.c") == CORPUS["crash/strings.c"]
        assert any("a chunking process died on" in each for each in daemon.status()["daemon"]["problems"])


def test_a_sync_with_nothing_to_do_starts_no_chunking_process(lab: Live) -> None:
    lab.now_ns = later_ns  # what was just written is old enough to be trusted
    with lab.running():
        pass
    daemon = lab.start()
    try:
        lab.until_current()
        result_of(daemon.sync(str(lab.root), "lab", False))
        assert pool_of(daemon).pids == []
    finally:
        lab.stop()
