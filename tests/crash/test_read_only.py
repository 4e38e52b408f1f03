"""A file system that becomes read-only: the sync says so, waits, and goes on; or the next one does."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from reposyncd.model import Progress
from reposyncd.store.process.supervisor import IndexProcess
from tests.crash import faults
from tests.crash.faults import SMALL_BATCHES, StoreLab, many_files

pytestmark = faults.root_only


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with faults.mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=400M", "tmpfs") as place:
        yield place


def test_without_patience_it_is_an_error_that_says_so_and_nothing_is_lost(tmp_path: Path, disk: Path) -> None:
    lab = StoreLab(tmp_path / "tree", disk / "state", variables={"REPOSYNCD_STORE__PATIENCE": "0"})
    lab.write(many_files(20))
    lab.sync()
    lab.write({"new.py": "print('new')\n"})
    faults.remount(disk, "ro")
    before = faults.fingerprint(lab.state)
    refused = lab.run(*lab.sync_command())
    assert refused.returncode == 1, refused.stderr
    assert "read-only" in refused.stderr.lower() or "readonly" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert faults.fingerprint(lab.state) == before
    faults.remount(disk, "rw")
    assert lab.mend().chunks.embedded == 1


def test_a_sync_waits_until_the_store_can_be_written_again(
    tmp_path: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel refuses to make a file system read-only while a file on it is open for writing: so only the store is
    on this one, and its process is killed first."""
    faults.set_constants(monkeypatch, SMALL_BATCHES)
    lab = StoreLab(tmp_path / "tree", tmp_path / "state")
    lab.write({"first.py": "print('first')\n"})
    lab.sync()
    store = (lab.state / "chroma").resolve()
    faults.sh("cp", "-a", f"{store}/.", str(disk))
    lab.write(many_files(800))  # many more batches than are under way when the first one is committed
    troubles: list[str] = []
    read_only = False

    def switch(index: IndexProcess, progress: Progress) -> None:
        nonlocal read_only
        if progress.trouble:
            troubles.append(progress.trouble)
            faults.remount(disk, "rw")
        elif progress.chunks_done and not read_only:
            read_only = True
            while not made_read_only():
                if pid := index.pid:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)

    def made_read_only() -> bool:
        return subprocess.run(["mount", "-o", "remount,ro", str(disk)], capture_output=True).returncode == 0

    with faults.mounted(store, "--bind", str(disk)):
        result = lab.sync_watched(switch)
        assert troubles
        assert result.files.total == 801
        assert lab.mend().chunks.embedded == 0
