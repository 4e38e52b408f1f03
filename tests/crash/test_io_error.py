"""A disk that reports errors when it is asked to make data durable."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from reposyncd.model import Progress
from reposyncd.store.process.supervisor import IndexProcess
from tests.crash import faults
from tests.crash.faults import SMALL_BATCHES, StoreLab, many_files

pytestmark = pytest.mark.skipif(not shutil.which("strace"), reason="strace injects the errors")


def failing_from(call: int) -> list[str]:
    """A strace under which, in every thread, fsync and fdatasync fail from that call on."""
    return [
        "strace",
        "-f",
        "-qqq",
        "-e",
        f"inject=fsync,fdatasync:error=EIO:when={call}+",
        "-e",
        "trace=fsync,fdatasync",
    ]


@pytest.mark.parametrize("call", [1, 3, 10])
def test_it_is_an_error_and_a_sync_on_a_sound_disk_makes_everything_right(tmp_path: Path, call: int) -> None:
    lab = StoreLab(tmp_path / "tree", tmp_path / "state", variables={"REPOSYNCD_STORE__PATIENCE": "0"})
    lab.write(many_files(30))
    trace = tmp_path / "trace"
    failed = lab.run(*lab.sync_command(), before=[*failing_from(call), "-o", str(trace), "--"])
    assert "EIO" in trace.read_text()
    assert failed.returncode == 1, failed.stderr
    assert "I/O" in failed.stderr or "Input/output error" in failed.stderr
    assert "Traceback" not in failed.stderr
    committed = lab.committed()
    result = lab.mend()
    assert result.chunks.embedded <= len(lab.committed() - committed)


def test_an_index_process_that_meets_one_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faults.set_constants(monkeypatch, SMALL_BATCHES)
    lab = StoreLab(tmp_path / "tree", tmp_path / "state")
    lab.write(many_files(200))
    attached: list[subprocess.Popen[str]] = []
    pids: list[int] = []

    def attach(index: IndexProcess, progress: Progress) -> None:
        """The next one is not traced: its disk is sound."""
        if progress.chunks_done and not attached and (pid := index.pid):
            pids.append(pid)
            command = failing_from(1)
            command.remove("-qqq")
            tracer = subprocess.Popen(
                [*command, "-p", str(pid)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
            )
            attached.append(tracer)
            assert tracer.stderr
            assert "attached" in tracer.stderr.readline()
        if index.pid:
            pids.append(index.pid)

    try:
        result = lab.sync_watched(attach)
    finally:
        for tracer in attached:
            faults.end(tracer)
    assert result.files.total == 200
    assert len(set(pids)) > 1
    assert lab.mend().chunks.embedded == 0
