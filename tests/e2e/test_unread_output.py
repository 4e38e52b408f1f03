"""What becomes of a command whose output nobody reads, on real pipes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from reposyncd.daemon.http.api import Api
from tests.program import PROGRAM, environ, run
from tests.served import Shelf
from tests.support import until, write

UNREAD = 141


def unread(tmp_path: Path, *arguments: str, errors_too: bool = False) -> subprocess.CompletedProcess[str]:
    """Runs it with a pipe for its output whose other end is closed."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        return subprocess.run(
            [*PROGRAM, *arguments],
            env=environ(tmp_path),
            stdout=writer,
            stderr=writer if errors_too else subprocess.PIPE,
            text=True,
            cwd=tmp_path,
        )
    finally:
        os.close(writer)


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("indexed")
    write(place, {"tree/a.py": "print('a')\n"})
    assert run(place, "sync", "tree").returncode == 0
    return place


PRINT = [
    ["--help"],
    ["--version"],
    ["sync", "--help"],
    ["search", "print"],
    ["search", "print", "--json"],
    ["status"],
    ["status", "--json"],
    ["status", "--watch"],
    ["repo", "list"],
    ["history"],
    ["config", "show"],
    ["config", "path"],
    ["completion", "bash"],
    ["service", "install", "--print"],
]


@pytest.mark.parametrize("arguments", PRINT, ids=" ".join)
def test_one_that_only_prints_ends_as_if_sigpipe_had_ended_it(indexed: Path, arguments: list[str]) -> None:
    out = unread(indexed, *arguments)
    assert (out.returncode, out.stderr) == (UNREAD, "")


WORK = [
    (["sync", "tree"], 0),
    (["sync", "tree", "--full", "--json"], 0),
    (["sync", "nowhere"], 1),
    (["verify"], 0),
    (["repo", "add", "tree"], 0),
    (["repo", "remove", "nobody"], 2),
    (["status", "--check"], 3),
    (["flush"], 3),
]


@pytest.mark.parametrize(("arguments", "code"), WORK, ids=str)
def test_one_that_does_something_exits_as_it_would_have(indexed: Path, arguments: list[str], code: int) -> None:
    out = unread(indexed, *arguments)
    assert out.returncode == code
    assert "Broken pipe" not in out.stderr
    assert "Traceback" not in out.stderr


def test_what_a_sync_and_a_removal_did_is_done_though_neither_output_nor_errors_were_read(tmp_path: Path) -> None:
    write(tmp_path, {"tree/a.py": "print('a')\n"})
    assert unread(tmp_path, "sync", "tree", errors_too=True).returncode == 0
    assert [run["outcome"] for run in json.loads(run(tmp_path, "history", "--json").stdout)] == ["done"]
    assert unread(tmp_path, "repo", "remove", "tree", errors_too=True).returncode == 0
    assert run(tmp_path, "repo", "list", "--json").stdout == "[]\n"


def test_a_sync_whose_progress_nobody_reads_goes_on_to_the_end(tmp_path: Path) -> None:
    write(tmp_path / "tree", {f"many/{n}.txt": f"number {n} of many\n" * 40 for n in range(2000)})
    script = f"{sys.executable} -m reposyncd sync tree 2>&1 | head -n 1; echo ${{PIPESTATUS[0]}}"
    out = subprocess.run(["bash", "-c", script], env=environ(tmp_path), capture_output=True, text=True, cwd=tmp_path)
    first, code = out.stdout.splitlines()
    assert "files" in first
    assert code == "0"
    [last] = json.loads(run(tmp_path, "history", "--json").stdout)
    assert (last["outcome"], last["files_done"]) == ("done", 2000)


def test_an_output_that_is_a_full_disk_is_an_error_of_one_line(indexed: Path) -> None:
    for arguments in (["status"], ["--help"], ["repo", "add", "tree"]):
        with open("/dev/full", "w") as full:
            out = subprocess.run(
                [*PROGRAM, *arguments],
                env=environ(indexed),
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                cwd=indexed,
            )
        assert out.returncode == 1
        assert out.stderr.splitlines()[-1] == "reposyncd: the output cannot be written: No space left on device"
        assert "Traceback" not in out.stderr


def test_a_program_that_was_started_without_stdout_and_stderr_does_its_work(indexed: Path) -> None:
    for closed in ("2>&-", "1>&- 2>&-"):
        script = f"{sys.executable} -m reposyncd sync --full tree {closed}"
        done = subprocess.run(["sh", "-c", script], env=environ(indexed), cwd=indexed, capture_output=True)
        assert done.returncode == 0, done.stderr


def test_on_a_pipe_watch_prints_all_of_it_when_something_changes_and_nothing_in_between(tmp_path: Path) -> None:
    shelf = Shelf()
    shelf.roots = {"lab": str(tmp_path / "tree")}
    asked = 0
    status = shelf.status

    def counted() -> dict[str, object]:
        nonlocal asked
        asked += 1
        return {**status(), "daemon": {**status()["daemon"], "uptime_s": 60.0 * asked}}

    shelf.status = counted  # type: ignore[method-assign]
    try:
        with (
            Api(shelf, str(tmp_path / "state" / "reposyncd.sock"), state_dir=str(tmp_path / "state")),
            subprocess.Popen(
                [*PROGRAM, "status", "--watch"], env=environ(tmp_path), stdout=subprocess.PIPE, text=True
            ) as process,
        ):
            assert process.stdout
            first = [process.stdout.readline() for _ in range(3)]
            assert "lab" in first[2]
            assert "current" in first[2]
            seen = asked
            until(lambda: asked > seen + 3, "it has looked again, and printed nothing")
            shelf.states["lab"] = "pending"
            second = [process.stdout.readline() for _ in range(5)]
            assert second[0] == "\n"
            assert "pending" in second[3]
            assert "somebody made it pending" in second[4]
            process.stdout.close()
            assert process.wait(60) == UNREAD
    finally:
        shelf.close()
