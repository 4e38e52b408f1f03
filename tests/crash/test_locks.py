"""Other programs hold the store's locks: the sync waits, writes nothing meanwhile, and says whom it waits for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from reposyncd.model import Progress
from reposyncd.store.process.supervisor import IndexProcess
from tests.crash import faults
from tests.crash.faults import Holder, StoreLab, many_files

LOCKS = {"flock": ".chroma.lock", "sqlite": "chroma.sqlite3"}
"""The convention of other ChromaDB programs, and what one that does not know it holds."""

AT_ONCE = {"REPOSYNCD_LOCK__TIMEOUT": "0.3", "REPOSYNCD_STORE__PATIENCE": "0"}


@pytest.fixture
def lab(tmp_path: Path) -> StoreLab:
    """An index that is true, and a tree that has changed since."""
    lab = StoreLab(tmp_path / "tree", tmp_path / "state")
    lab.write(many_files(10))
    lab.sync()
    lab.write({"d0/0.py": None, "d1/1.py": "changed = 1\n", "new.py": "new = 1\n"})
    return lab


def hold(lab: StoreLab, kind: str) -> Holder:
    return Holder(kind, lab.state / "chroma" / LOCKS[kind])


@pytest.mark.parametrize("kind", LOCKS)
@pytest.mark.parametrize("timeout", ["30", "0.3"], ids=["waiting once", "waiting again and again"])
def test_a_sync_waits_for_another_program_and_writes_nothing_meanwhile(lab: StoreLab, kind: str, timeout: str) -> None:
    lab.variables["REPOSYNCD_LOCK__TIMEOUT"] = timeout
    troubles: list[str] = []
    with hold(lab, kind) as holder:
        before = faults.fingerprint(lab.state / "chroma")

        def release(index: IndexProcess, progress: Progress) -> None:
            if progress.trouble:
                troubles.append(progress.trouble)
                if len(troubles) == 3:
                    assert faults.fingerprint(lab.state / "chroma") == before
                    holder.release()
                    assert faults.fingerprint(lab.state / "chroma").keys() >= before.keys()

        result = lab.sync_watched(release)
    assert len(troubles) >= 3
    assert LOCKS[kind] in troubles[0]
    assert result.chunks.embedded == 2
    assert lab.mend().chunks.embedded == 0


@pytest.mark.parametrize("kind", LOCKS)
def test_a_lock_that_is_never_released_is_exit_code_75_and_nothing_is_lost(lab: StoreLab, kind: str) -> None:
    lab.variables |= AT_ONCE
    with hold(lab, kind):
        before = faults.fingerprint(lab.state / "chroma")
        refused = lab.run(*lab.sync_command())
        assert faults.fingerprint(lab.state / "chroma") == before
    assert refused.returncode == 75, refused.stderr
    assert LOCKS[kind] in refused.stderr
    assert lab.mend().chunks.embedded == 2


@pytest.mark.parametrize("kind", LOCKS)
def test_the_locks_of_a_killed_program_are_free(lab: StoreLab, kind: str) -> None:
    lab.variables |= AT_ONCE
    with hold(lab, kind) as holder:
        holder.kill()
        assert lab.mend().chunks.embedded == 2


def test_a_program_killed_in_the_middle_of_a_transaction_leaves_nothing_of_it(lab: StoreLab) -> None:
    lab.variables |= AT_ONCE
    database = lab.state / "chroma" / "chroma.sqlite3"
    with Holder("sqlite-journal", database) as holder:
        holder.kill()
        assert database.with_name("chroma.sqlite3-journal").exists()
        assert lab.mend().chunks.embedded == 2


def holding_the_state_lock(lab: StoreLab, act: Callable[[int], None]) -> None:
    """`act` is called with the process id of a sync that is in the middle of its work, which goes on afterwards."""
    with hold(lab, "flock") as holder:
        first = lab.start(*lab.sync_command())
        try:
            lock = lab.state / "reposyncd.lock"
            faults.wait_until(lambda: lock.read_text() == f"{first.pid}\n")
            act(first.pid)
            holder.release()
            out, err = first.communicate(timeout=faults.HANGS_S)
        finally:
            faults.end(first)
    assert first.returncode == 0, err
    assert json.loads(out)["chunks"]["embedded"] == 2


def test_a_second_sync_of_the_same_state_gives_up_naming_the_first(lab: StoreLab) -> None:
    impatient = StoreLab(lab.root, lab.state, variables=AT_ONCE)

    def second_sync(pid: int) -> None:
        refused = impatient.run(*impatient.sync_command())
        assert refused.returncode == 75, refused.stderr
        assert f"process {pid}" in refused.stderr

    holding_the_state_lock(lab, second_sync)
    assert lab.mend().chunks.embedded == 0


def test_a_second_sync_of_the_same_state_waits_for_the_first(lab: StoreLab) -> None:
    second = []
    holding_the_state_lock(lab, lambda pid: second.append(lab.start(*lab.sync_command())))
    try:
        out, err = second[0].communicate(timeout=faults.HANGS_S)
    finally:
        faults.end(second[0])
    assert second[0].returncode == 0, err
    assert json.loads(out)["chunks"]["added"] == 0
    assert lab.mend().chunks.embedded == 0
