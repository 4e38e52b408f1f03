"""Faults that pass: a sound store stays, and a fault costs no more than the batches that were under way."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from reposyncd.child_process import ChildProcess
from reposyncd.model import Batch, ChunkRow, NewChunk, Progress
from reposyncd.store.process.supervisor import IndexProcess
from tests.crash import faults
from tests.crash.faults import PROJECT, StoreLab, children, functions, many_files
from tests.support import index_process

needs_strace = pytest.mark.skipif(not shutil.which("strace"), reason="strace injects the errors")

TIMES = faults.number_from("REPOSYNCD_TEST_FAULTS", 8)
"""Kills, and injected faults, in one sync."""

BATCH = 20
TINY = {"reposyncd.sync.pipeline.BATCH_CHUNKS": BATCH}

UNDER_WAY = 2
"""Batches that a fault may cost."""

NEW = {f"new/{n}.py": functions(f"n{n}", f"m{n}") for n in range(5)}


@pytest.fixture
def lab(tmp_path: Path) -> StoreLab:
    """An index, and five files that it does not have."""
    lab = StoreLab(tmp_path / "tree", tmp_path / "state", variables={"REPOSYNCD_STORE__PATIENCE": "8"})
    lab.write(many_files(30))
    lab.sync()
    lab.write(NEW)
    return lab


def assert_nothing_was_given_up(lab: StoreLab) -> None:
    assert not (lab.state / "quarantine").exists()
    with lab.workspace() as workspace:
        assert workspace.catalog.incidents() == []


# Who dies, of what, at what -----------------------------------------------------------------------------


def batch(n: int) -> Batch:
    rows = [ChunkRow(f"{n:016x}{i:016x}", f"f{n}", i + 1, i + 1, "", "text", "0" * 32) for i in range(50)]
    return Batch("r", tuple(NewChunk(row, f"text {n} {row.start_line}\n") for row in rows), ())


OPERATIONS: dict[str, Callable[[IndexProcess], Any]] = {
    "open": lambda index: index.open("c-1", {"a": "b"}),
    "apply": lambda index: index.apply("c-1", batch(2)).result(),
    "delete": lambda index: index.delete("c-1", ["0" * 32]).result(),
    "query": lambda index: index.query("c-1", "text", 1),
    "probe": lambda index: index.probe("c-1"),
    "persist": lambda index: index.call("persist", []),
}


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IndexProcess]:
    state = tmp_path_factory.mktemp("state")
    index = index_process(state)
    index.open("c-1", {"a": "b"})
    index.apply("c-1", batch(1)).result()
    yield index
    index.close()


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
@pytest.mark.parametrize("child", ["index process", "embedder"])
def test_one_death_of_a_child_in_an_operation_is_noticed_by_nobody(
    index: IndexProcess, child: str, number: signal.Signals, operation: str
) -> None:
    index.query("c-1", "text", 1)  # both are there
    assert index.pid
    victims = [index.pid] if child == "index process" else children(index.pid)
    for pid in victims:
        os.kill(pid, signal.SIGSTOP)  # so that it is asked, and has not answered
    session = index.session
    with ThreadPoolExecutor() as threads:
        asked = threads.submit(OPERATIONS[operation], index)
        faults.wait_until(lambda: bool(index._requests) or asked.done())
        for pid in victims:
            os.kill(pid, number)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        asked.result()
    if operation == "persist":
        index.release()  # which is how a persister ends
    else:
        assert (index.session == session) == (child == "embedder")
    assert f"{1:016x}{0:016x}" in index.ids("c-1")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_two_deaths_of_the_index_process_while_it_opens_a_sound_store_cost_nothing(
    lab: StoreLab, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether somebody ends it or it seems to crash: a fresh look finds the store sound."""
    committed = lab.committed()
    killed: list[int] = []
    send = ChildProcess.send

    def deadly(self: ChildProcess, message: Any) -> None:
        send(self, message)
        if message[1] == "open" and len(killed) < 2:
            killed.append(self.pid)
            os.kill(self.pid, number)

    monkeypatch.setattr(ChildProcess, "send", deadly)
    result = lab.sync()
    assert len(killed) == 2
    assert result.chunks.embedded == len(lab.committed() - committed) == 10
    assert_nothing_was_given_up(lab)
    assert lab.mend().chunks.embedded == 0


# Errors of the disk -------------------------------------------------------------------------------------

CHECKPOINT = """
import sys
from pathlib import Path
from reposyncd.store.chroma import checkpoint
from tests.support import config_for, later_ns
from reposyncd.app import operations
from reposyncd.app.workspace import Workspace
checkpoint.LOG_ROWS = 0
state, root = sys.argv[1:]
with Workspace(config_for(Path(state)), {"HOME": "/nonexistent"}, now_ns=later_ns) as workspace:
    operations.sync(workspace, root, "lab")
"""


def injecting(calls: str, error: str, when: str) -> list[str]:
    """A strace under which these calls fail, counted in each thread."""
    inject = ["-e", f"trace={calls}", "-e", f"inject={calls}:error={error}:when={when}"]
    return ["strace", "-f", "-qqq", "-o", "/dev/null", *inject, "--"]


@needs_strace
@pytest.mark.parametrize(
    ("calls", "error", "when"),
    [
        ("fsync,fdatasync", "EIO", "5"),
        ("fsync,fdatasync", "EIO", "8+"),
        ("pwrite64", "ENOSPC", "20"),
        ("pwrite64", "EIO", "50"),
        ("pread64", "EIO", "60"),
    ],
)
def test_a_fault_of_the_disk_that_outlasts_a_sync_is_an_error_and_nothing_is_given_up(
    lab: StoreLab, calls: str, error: str, when: str
) -> None:
    lab.run(*lab.sync_command(), before=injecting(calls, error, when))  # it may come to its end, or not
    committed = lab.committed()
    result = lab.mend()
    assert result.chunks.embedded <= len(lab.committed() - committed)
    assert_nothing_was_given_up(lab)


@needs_strace
@pytest.mark.parametrize(
    ("calls", "error", "when"),
    [
        ("fsync,fdatasync", "EIO", "3"),
        ("pwrite64", "ENOSPC", "30"),
        ("pwrite64", "EIO", "40"),
        ("pread64", "EIO", "60"),
    ],
)
def test_a_fault_of_the_disk_in_a_checkpoint_costs_nothing(lab: StoreLab, calls: str, error: str, when: str) -> None:
    lab.sync()
    lab.write({"one_more.py": functions("more")})
    subprocess.run(
        [*injecting(calls, error, when), sys.executable, "-c", CHECKPOINT, str(lab.state), str(lab.root)],
        cwd=PROJECT,
        env=lab.environ(),
        capture_output=True,
    )
    committed = lab.committed()
    result = lab.mend()
    assert result.chunks.embedded <= len(lab.committed() - committed)
    assert_nothing_was_given_up(lab)


# What it costs ------------------------------------------------------------------------------------------


class Sent:
    """Counts the texts that index processes are given to embed, as often as they are."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.texts = 0
        send = ChildProcess.send

        def counted(life: ChildProcess, message: Any) -> None:
            if message[1] == "apply":
                _, batch = message[2]
                # A batch that is sent again takes what is stored of it from there; here all of it counts.
                self.texts += len({chunk.text for chunk in batch.added if chunk.source in (None, chunk.row.id)})
            send(life, message)

        monkeypatch.setattr(ChildProcess, "send", counted)


@pytest.mark.parametrize("whom", ["index process", "embedder"])
def test_kills_cost_no_more_than_the_batches_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whom: str
) -> None:
    faults.set_constants(monkeypatch, TINY)
    lab = StoreLab(tmp_path / "tree", tmp_path / "state")
    lab.write(many_files(BATCH * (TIMES + 4) // 2))
    sent, done, killed = Sent(monkeypatch), 0, set[int]()

    def kill_at_commits(index: IndexProcess, progress: Progress) -> None:
        nonlocal done
        if progress.chunks_done > done and len(killed) < TIMES and (pid := index.pid):
            done = progress.chunks_done
            for victim in [pid] if whom == "index process" else children(pid):
                if victim not in killed:
                    killed.add(victim)
                    with suppress(ProcessLookupError):
                        os.kill(victim, signal.SIGKILL)

    result = lab.sync_watched(kill_at_commits)
    beyond = sent.texts - len(lab.committed())
    print(f"{len(killed)} kills of the {whom}: {beyond} texts beyond {len(lab.committed())}, {BATCH} in a batch")
    assert len(killed) == TIMES
    assert beyond <= len(killed) * UNDER_WAY * BATCH
    assert result.chunks.total == len(lab.committed())
    assert_nothing_was_given_up(lab)
    assert lab.mend().chunks.embedded == 0


FAULTS = [("fsync,fdatasync", "EIO"), ("pwrite64", "ENOSPC"), ("pwrite64", "EIO"), ("pread64", "EIO")]


@needs_strace
def test_errors_of_the_disk_cost_no_more_than_the_batches_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each index process meets them until it is given up; the next one, once something is stored again."""
    faults.set_constants(monkeypatch, TINY)
    lab = StoreLab(tmp_path / "tree", tmp_path / "state", variables={"REPOSYNCD_STORE__PATIENCE": "600"})
    lab.write(many_files(BATCH * (TIMES + 4) // 2))
    sent, done, tracers = Sent(monkeypatch), 0, dict[int, subprocess.Popen[str]]()

    def attach_at_commits(index: IndexProcess, progress: Progress) -> None:
        nonlocal done
        if progress.chunks_done > done and len(tracers) < TIMES and (pid := index.pid) and pid not in tracers:
            done = progress.chunks_done
            calls, error = FAULTS[len(tracers) % len(FAULTS)]
            command = [each for each in injecting(calls, error, "1+") if each not in ("-qqq", "--")]
            tracers[pid] = subprocess.Popen(
                [*command, "-p", str(pid)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
            )
            said = tracers[pid].stderr
            assert said
            assert "attached" in said.readline()

    try:
        result = lab.sync_watched(attach_at_commits)
    finally:
        for tracer in tracers.values():
            faults.end(tracer)
    beyond = sent.texts - len(lab.committed())
    print(f"{len(tracers)} faults: {beyond} texts beyond {len(lab.committed())}, {BATCH} in a batch")
    assert len(tracers) == TIMES
    assert beyond <= len(tracers) * UNDER_WAY * BATCH
    assert result.chunks.total == len(lab.committed())
    assert_nothing_was_given_up(lab)
    assert json.loads(lab.run(*lab.sync_command()).stdout)["chunks"]["embedded"] == 0
