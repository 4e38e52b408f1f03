"""An index process that is stopped does nothing and does not die; it is replaced when its deadline has passed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from reposyncd.model import Progress
from reposyncd.store.process.supervisor import IndexProcess
from tests.crash import faults
from tests.crash.faults import SMALL_BATCHES, StoreLab, many_files

DEADLINE_S = "8"
"""Leaves a slow machine time to import Chroma."""


@pytest.mark.parametrize("whom", ["index process", "embedder"])
def test_a_sync_survives_a_stopped_index_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whom: str) -> None:
    faults.set_constants(monkeypatch, SMALL_BATCHES)
    lab = StoreLab(tmp_path / "tree", tmp_path / "state")
    lab.variables |= {"REPOSYNCD_STORE__DEADLINE": DEADLINE_S, "REPOSYNCD_LOCK__TIMEOUT": "0"}
    lab.write(many_files(200))
    stopped: list[int] = []

    def stop(index: IndexProcess, progress: Progress) -> None:
        if progress.chunks_done and not stopped and (pid := index.pid):
            stopped.extend([pid] if whom == "index process" else faults.children(pid))
            for each in stopped:
                os.kill(each, signal.SIGSTOP)

    result = lab.sync_watched(stop)
    assert stopped
    assert all(faults.is_gone(pid) for pid in stopped)
    assert result.files.total == 200
    assert lab.mend().chunks.embedded == 0
