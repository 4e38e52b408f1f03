"""What status says, of a state directory that somebody else may be writing to."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from reposyncd.app import operations
from reposyncd.app.recorded_status import recorded_status
from reposyncd.errors import CorruptStoreError, TransientStoreError
from reposyncd.model import Progress, Waiting
from reposyncd.ports import OnWait, RunningIndex
from reposyncd.store.locks import state_lock
from tests.support import Lab
from tests.unit.sync.test_pipeline import FussyIndex


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    (tmp_path / "tree").mkdir()
    lab = Lab(tmp_path / "tree", tmp_path / "state", variables={"REPOSYNCD_STORE__PATIENCE": "0"})
    lab.write({"a.py": "print('a')\n", "b.py": "print('b')\n"})
    return lab


def report(lab: Lab) -> Any:
    return recorded_status(str(lab.state), time.time_ns(), "1.2.3")


def repo(lab: Lab) -> dict[str, Any]:
    [found] = report(lab)["repos"]
    return dict(found)


def test_where_nothing_was_ever_indexed_it_says_so_and_makes_nothing(lab: Lab) -> None:
    assert report(lab)["repos"] == []
    assert not lab.state.exists()


def test_after_a_sync_a_repo_is_current_as_of_then(lab: Lab) -> None:
    result = lab.sync()
    found = repo(lab)
    assert (found["name"], found["root"], found["state"]) == ("lab", str(lab.root), "current")
    assert (found["files"], found["chunks"]) == (2, 2)
    assert found["last_sync"] == json.loads(json.dumps(result.to_dict()))
    assert found["progress"] is found["waiting"] is None
    assert report(lab)["store"]["healthy"]


def test_a_sync_under_way_is_told_with_its_progress(lab: Lab) -> None:
    lab.write({f"{n}.txt": f"{n}\n" for n in range(50)})
    seen: list[dict[str, Any]] = []

    def look(progress: Progress) -> None:
        if progress.phase == "index":
            seen.append(repo(lab))

    with lab.workspace() as workspace:
        operations.sync(workspace, str(lab.root), "lab", on_progress=look)
    assert {each["state"] for each in seen} == {"syncing"}
    assert seen[-1]["progress"] == {"done": 52, "total": 52, "chunks": 52}


def test_a_sync_that_waits_is_degraded_and_says_for_what_and_how_long(lab: Lab) -> None:
    seen: list[dict[str, Any]] = []

    def look(progress: Progress) -> None:
        if progress.trouble:
            seen.append(report(lab))

    with lab.workspace() as workspace:
        index = workspace.index
        opened = index.open
        hooks: list[OnWait] = []

        def observed(on_wait: OnWait) -> RunningIndex:
            hooks.append(on_wait)
            return index

        def late(collection: str, metadata: Mapping[str, str]) -> int:
            hooks[-1](Waiting("another program holds the lock", time.time_ns() - 7_000_000_000))
            return opened(collection, metadata)

        index.observed = observed  # type: ignore[method-assign]
        index.open = late  # type: ignore[method-assign]
        operations.sync(workspace, str(lab.root), "lab", on_progress=look)
    [found] = seen[0]["repos"]
    assert found["state"] == "degraded"
    assert found["waiting"]["reason"] == found["reason"] == "another program holds the lock"
    assert found["waiting"]["for_s"] >= 7
    assert seen[0]["store"]["lock"]["waits"] == 1
    assert repo(lab)["state"] == "current"


def test_a_failed_sync_is_failed_with_its_error_until_one_succeeds(lab: Lab) -> None:
    sound, lab.index = lab.index, FussyIndex("", always=True)
    with pytest.raises(TransientStoreError):
        lab.sync()
    assert repo(lab)["state"] == "failed"
    assert "SIGSEGV" in repo(lab)["reason"]
    lab.index = sound
    lab.sync()
    assert repo(lab)["state"] == "current"


def test_a_sync_whose_process_died_is_pending(lab: Lab) -> None:
    lab.sync()
    with lab.workspace() as workspace:
        workspace._state.db.run("UPDATE run SET outcome = 'running'")
    assert repo(lab)["state"] == "pending"
    with state_lock(str(lab.state), 0):
        assert repo(lab)["state"] == "syncing"


def test_a_root_that_is_gone_is_missing(lab: Lab) -> None:
    lab.sync()
    shutil.rmtree(lab.root)
    assert repo(lab)["state"] == "missing"


def test_a_store_that_was_made_anew_is_degraded_until_the_repo_is_rebuilt(lab: Lab, tmp_path: Path) -> None:
    lab.sync()
    other = tmp_path / "other"
    other.mkdir()
    (other / "c.py").write_text("print('c')\n")
    with lab.workspace() as workspace:
        operations.sync(workspace, str(other))
        workspace._state.renew_store(CorruptStoreError("it was garbled"), time.time_ns() + 20_000_000_000, "f")
        [incident] = report(lab)["incidents"]
        assert incident["place"] == str(lab.state / "quarantine" / "chroma")
        assert {(each["name"], each["state"]) for each in report(lab)["repos"]} == {
            ("lab", "degraded"),
            ("other", "degraded"),
        }
        assert "it was garbled" in repo_of(lab, "lab")["reason"]
        workspace._now_ns = lambda: time.time_ns() + 30_000_000_000
        operations.sync(workspace, str(lab.root), "lab")
    assert repo_of(lab, "lab")["state"] == "current"
    assert repo_of(lab, "other")["state"] == "degraded"


def repo_of(lab: Lab, name: str) -> dict[str, Any]:
    [found] = [each for each in report(lab)["repos"] if each["name"] == name]
    return dict(found)


def test_a_quarantined_file_is_named(lab: Lab) -> None:
    lab.index = FussyIndex("poison")
    lab.write({"d/p.txt": "poison\n"})
    lab.sync()
    assert repo(lab)["quarantined"] == ["d/p.txt"]


def test_a_damaged_manifest_is_said_and_not_touched(lab: Lab) -> None:
    lab.sync()
    manifest = lab.state / "manifest.db"
    manifest.write_bytes(os.urandom(manifest.stat().st_size))
    found = report(lab)
    assert not found["store"]["healthy"]
    assert str(manifest) in found["store"]["reason"]
    assert not (lab.state / "quarantine").exists()


def test_a_full_disk_is_said(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.sync()
    monkeypatch.setattr("reposyncd.store.space.RESERVE_BYTES", 1 << 62)
    assert "is full" in report(lab)["store"]["reason"]


def test_the_command_tells_a_person_and_a_script(lab: Lab, tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        program = [sys.executable, "-m", "reposyncd", "--state-dir", str(lab.state), *arguments]
        return subprocess.run(program, capture_output=True, text=True, cwd=tmp_path)

    assert "nothing is indexed yet" in run("status").stdout
    lab.sync()
    shown = run("status").stdout
    assert "lab   current      2       2  0 s ago  -" in shown
    assert run("status", "--check").returncode == 3
    assert json.loads(run("status", "--json").stdout)["repos"][0]["name"] == "lab"
    assert run("status", "nothing").returncode == 2
    assert "sync done, 2 of 2 files, 2 chunks added" in run("history").stdout
    assert json.loads(run("history", "--json").stdout)[0]["outcome"] == "done"
    with lab.workspace() as workspace:
        workspace._state.db.run("UPDATE run SET outcome = 'failed', error = 'it went wrong'")
    assert "lab: it went wrong" in run("status", "--check").stdout
    assert "  lab: it went wrong" in run("status").stdout


def test_it_imports_neither_chroma_nor_numpy(lab: Lab) -> None:
    lab.sync()
    script = (
        "import sys, time\n"
        "from reposyncd.app.recorded_status import recorded_status\n"
        f"recorded_status({str(lab.state)!r}, time.time_ns(), '')\n"
        "import reposyncd.cli.status\n"
        "print(sorted({'chromadb', 'numpy', 'tenacity', 'filelock', 'tree_sitter', 'msgspec'} & sys.modules.keys()))\n"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
