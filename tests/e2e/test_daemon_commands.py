"""The commands that ask a daemon, as they are run; behind the socket is a small service that works."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from reposyncd.daemon.http.api import Api
from reposyncd.errors import CorruptStoreError
from tests.program import PROGRAM, environ, run
from tests.served import Shelf
from tests.support import write

TREE = {"door.py": "def open_door(key):\n    return unlock(key)\n", "http.py": "def listen(port):\n    bind(port)\n"}
LONG_S = 60.0
"""A time-out that only a test which is about to fail reaches."""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    write(tmp_path / "tree", TREE)
    return tmp_path / "tree"


@pytest.fixture
def daemon(shelf: Shelf, tmp_path: Path) -> Iterator[Api]:
    state = tmp_path / "state"
    with Api(shelf, str(state / "reposyncd.sock"), state_dir=str(state)) as api:
        yield api


@pytest.mark.usefixtures("daemon")
def test_repos_are_added_listed_and_removed(tmp_path: Path, tree: Path) -> None:
    out = run(tmp_path, "repo", "add", "tree", "--name", "lab")
    assert (out.returncode, out.stdout) == (0, f"lab: now tracking {tree}\n")
    assert run(tmp_path, "repo", "list").stdout == f"lab  current  {tree}\n"
    [repo] = json.loads(run(tmp_path, "repo", "list", "--json").stdout)
    assert (repo["name"], repo["root"]) == ("lab", str(tree))
    out = run(tmp_path, "repo", "remove", "lab", "--json")
    assert json.loads(out.stdout) == {"name": "lab", "root": str(tree)}
    assert "nothing is indexed yet" in run(tmp_path, "repo", "list").stdout
    out = run(tmp_path, "repo", "remove", "lab")
    assert (out.returncode, out.stderr) == (2, 'reposyncd: there is no repository "lab"\n')


@pytest.mark.usefixtures("daemon")
def test_a_repo_is_meant_by_its_path_too_whatever_the_daemons_directory(
    tmp_path: Path, tree: Path, shelf: Shelf
) -> None:
    shelf.roots = {"lab": str(tree)}
    assert run(tmp_path, "pause", "./tree").stdout == "lab: paused; resume with: reposyncd resume lab\n"
    assert shelf.states == {"lab": "paused"}
    assert json.loads(run(tmp_path, "resume", str(tree), "--json").stdout) == {"repos": ["lab"]}
    assert shelf.states == {"lab": "current"}
    assert run(tmp_path, "pause", "nobody").returncode == 2
    assert run(tmp_path, "repo", "remove", "./tree").returncode == 0
    assert shelf.roots == {}


@pytest.mark.usefixtures("daemon")
def test_flush_returns_when_the_daemon_has_done_everything(tmp_path: Path, tree: Path, shelf: Shelf) -> None:
    shelf.roots, shelf.dirty = {"lab": str(tree)}, {"lab": ["door.py"]}
    out = run(tmp_path, "flush")
    assert (out.returncode, out.stdout) == (0, "lab: every change is in the index\n")
    assert not shelf.dirty


@pytest.mark.usefixtures("daemon")
def test_flush_says_what_is_still_pending_and_why_when_its_time_is_over(
    tmp_path: Path, tree: Path, shelf: Shelf
) -> None:
    shelf.roots, shelf.dirty = {"lab": str(tree)}, {"lab": [f"{n}.py" for n in range(8)]}
    shelf.gate.clear()
    out = run(tmp_path, "flush", "lab", "--timeout", "0.1")
    assert out.returncode == 1
    assert "timed out after 0.1 s; the service continues" in out.stderr
    assert "lab: 0.py, 1.py, 2.py, 3.py, 4.py and 3 more: the gate is closed" in out.stderr
    out = run(tmp_path, "flush", "lab", "--timeout", "0", "--json")
    assert out.returncode == 1
    assert len(json.loads(out.stdout)["pending"][0]["paths"]) == 8


@pytest.mark.usefixtures("daemon")
def test_a_sync_is_done_by_the_daemon(tmp_path: Path, tree: Path, shelf: Shelf) -> None:
    out = run(tmp_path, "sync", "tree", "--name", "lab", "--full")
    assert out.returncode == 0
    assert "lab: 2 files, 2 chunks are indexed (0.50 s)" in out.stdout
    assert "2 new, 0 modified, 0 deleted" in out.stdout
    assert shelf.roots == {"lab": str(tree)}
    assert not (tmp_path / "state" / "manifest.db").exists()
    result = json.loads(run(tmp_path, "sync", "tree", "--json").stdout)
    assert result.keys() == {"repo", "root", "files", "chunks", "bytes_read", "duration_s", "errors"}
    write(tree, {"x.unreadable": ""})
    out = run(tmp_path, "sync", "tree")
    assert out.returncode == 1
    assert "not indexed: x.unreadable: Permission denied" in out.stderr
    out = run(tmp_path, "sync", "no/such/place")
    assert out.returncode == 1
    assert "no/such/place does not exist" in out.stderr


@pytest.mark.usefixtures("daemon")
def test_ctrl_c_leaves_the_daemon_working_and_says_so(tmp_path: Path, tree: Path, shelf: Shelf) -> None:
    shelf.gate.clear()
    shelf.trouble = "another program holds the lock"
    with subprocess.Popen(
        [*PROGRAM, "sync", str(tree)], env=environ(tmp_path), stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr
        assert process.stderr.readline() == "another program holds the lock\n"
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 130
    assert rest == "reposyncd: the service continues with the sync; follow it with: reposyncd status --watch\n"
    assert shelf.roots == {}
    shelf.gate.set()
    run(tmp_path, "sync", str(tree))
    assert shelf.roots == {"tree": str(tree)}


@pytest.mark.usefixtures("daemon")
def test_a_verification_is_done_by_the_daemon(tmp_path: Path, tree: Path, shelf: Shelf) -> None:
    run(tmp_path, "repo", "add", "tree")
    out = run(tmp_path, "verify", "./tree")
    assert (out.returncode, out.stdout) == (0, "tree: 1 records, 1 files, 1 vectors compared: nothing is wrong\n")
    shelf.dirty = {"tree": ["a.py"]}
    out = run(tmp_path, "verify", "tree")
    assert (out.returncode, out.stdout.splitlines()[1:]) == (1, ["  1 records are missing from the store"])
    assert "repair it with: reposyncd verify --repair" in out.stdout
    out = run(tmp_path, "verify", "--repair", "--json")
    assert (out.returncode, [each["repaired"] for each in json.loads(out.stdout)]) == (1, [True])
    assert 'no repository "other"' in run(tmp_path, "verify", "other").stderr


@pytest.mark.usefixtures("daemon")
def test_a_search_is_answered_by_the_daemon(tmp_path: Path, tree: Path, shelf: Shelf) -> None:
    shelf.roots = {"lab": str(tree)}
    out = run(tmp_path, "search", "def", "-n", "1")
    assert "1. lab  door.py:1-1" in out.stdout
    assert "   | def open_door(key):" in out.stdout
    [hit] = json.loads(run(tmp_path, "search", "listen", "--repo", "./tree", "--json").stdout)
    assert (hit["path"], hit["text"]) == ("http.py", "def listen(port):\n")
    assert "nothing found" in run(tmp_path, "search", "no such thing").stdout
    shelf.broken = CorruptStoreError("the index is damaged")
    out = run(tmp_path, "search", "def")
    assert (out.returncode, out.stderr) == (1, "reposyncd: the index is damaged\n")


@pytest.mark.usefixtures("daemon")
def test_status_is_the_daemons_and_current_is_what_check_wants(tmp_path: Path, tree: Path, shelf: Shelf) -> None:
    shelf.roots = {"lab": str(tree), "other": str(tmp_path)}
    out = run(tmp_path, "status", "--check")
    assert (out.returncode, out.stdout) == (0, "")
    first, heads, second, third = run(tmp_path, "status").stdout.splitlines()
    assert first == f"service: running, pid {os.getpid()}, up 2 h"
    assert heads.split()[:4] == ["NAME", "STATE", "FILES", "CHUNKS"]
    assert second.split() == ["lab", "current", "2", "0", "never", "5,012", "dirs", str(tree)]
    assert third.index("current") == second.index("current") == heads.index("STATE")
    shelf.dirty, shelf.states = {"lab": ["door.py"]}, {"lab": "pending"}
    out = run(tmp_path, "status", "lab", "--check")
    assert out.returncode == 1
    assert out.stdout == "lab: somebody made it pending (for 4 s)\n"
    shown = run(tmp_path, "status", "lab").stdout
    assert f"{tree}; 1 pending; 4 s behind\n" in shown
    assert "other" not in shown
    [repo] = json.loads(run(tmp_path, "status", "./tree", "--json").stdout)["repos"]
    assert (repo["pending"], repo["watch"]["mode"]) == (1, "inotify")


@pytest.mark.usefixtures("daemon")
@pytest.mark.parametrize(
    ("watch", "shown"),
    [
        (
            {"mode": "poll", "directories": 0, "unwatched": 3, "reason": "it is on NFS"},
            "  lab: it is on NFS; a scan every watch.poll seconds finds the changes that cause no event\n",
        ),
        ({"mode": "none", "directories": 0, "unwatched": 0, "reason": ""}, "tree\n"),
    ],
)
def test_a_repo_that_is_not_wholly_watched_says_why_and_what_becomes_of_it(
    tmp_path: Path, tree: Path, shelf: Shelf, watch: dict[str, object], shown: str
) -> None:
    shelf.roots = {"lab": str(tree)}
    shelf.watch |= watch
    assert shown in run(tmp_path, "status").stdout


def test_without_a_daemon_what_needs_it_exits_with_3_and_says_how_to_start_it(tmp_path: Path) -> None:
    for arguments in (["flush"], ["pause"], ["resume"]):
        out = run(tmp_path, *arguments)
        assert out.returncode == 3
        assert "start it with: reposyncd service install" in out.stderr


def test_without_a_daemon_the_rest_is_done_by_the_command(tmp_path: Path, tree: Path) -> None:
    out = run(tmp_path, "repo", "add", "tree", "--name", "lab")
    assert out.returncode == 0
    assert out.stdout == f"lab: now tracking {tree}\n"
    assert "the service is not running, so lab is not indexed yet" in out.stderr
    assert f"reposyncd sync {tree}" in out.stderr
    assert run(tmp_path, "repo", "list").stdout == f"lab  pending  {tree}\n"
    assert json.loads(run(tmp_path, "repo", "add", "tree", "--json").stdout) == {"name": "lab", "root": str(tree)}
    (tmp_path / "another").mkdir()
    assert "taken by" in run(tmp_path, "repo", "add", "another", "--name", "lab").stderr
    assert 'contains the repository "lab"' in run(tmp_path, "repo", "add", str(tmp_path)).stderr
    assert "lab: 2 files" in run(tmp_path, "sync", "tree").stdout
    out = run(tmp_path, "status")
    assert out.stdout.startswith("service: not running; this was the state at the last sync. Start it with: ")
    assert "current" in out.stdout
    check = run(tmp_path, "status", "--check")
    assert (check.returncode, check.stdout.partition(";")[0]) == (3, "service: not running")
    assert "http.py" in run(tmp_path, "search", "listen port").stdout


def test_a_daemon_that_keeps_another_state_directory_is_not_asked(tmp_path: Path, tree: Path, shelf: Shelf) -> None:
    path = str(tmp_path / "s")
    with Api(shelf, path, state_dir=str(tmp_path / "elsewhere")):
        env = {**environ(tmp_path), "REPOSYNCD_SOCKET": path}
        out = subprocess.run([*PROGRAM, "sync", str(tree)], env=env, capture_output=True, text=True)
        assert "2 files, 2 chunks are indexed" in out.stdout
        assert (tmp_path / "state" / "manifest.db").exists()
        assert shelf.roots == {}
        out = subprocess.run([*PROGRAM, "flush"], env=env, capture_output=True, text=True)
        assert out.returncode == 3
        assert f"the one at this socket uses {tmp_path / 'elsewhere'}" in out.stderr


def test_a_daemon_that_is_stopped_is_said_to_be_silent_and_the_disk_answers(tmp_path: Path, tree: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    script = (
        "import socket, sys\n"
        "s = socket.socket(socket.AF_UNIX)\n"
        "s.bind(sys.argv[1])\n"
        "s.listen()\n"
        "print('ready', flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "state" / "reposyncd.sock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as silent:
        assert silent.stdout
        assert silent.stdout.readline() == b"ready\n"
        out = run(tmp_path, "status")
        silent.communicate()
    assert out.returncode == 0
    assert "has not answered for 5 s; this was the state at the last sync" in out.stdout


@pytest.mark.usefixtures("daemon")
@pytest.mark.parametrize("arguments", [["status"], ["sync", "tree"], ["search", "x"], ["flush"], ["repo", "list"]])
def test_whoever_asks_the_daemon_loads_nothing_of_the_engine(
    tmp_path: Path, tree: Path, shelf: Shelf, arguments: list[str]
) -> None:
    shelf.roots = {"tree": str(tree)}
    script = (
        "import sys; from reposyncd.cli import main\n"
        "try: main()\n"
        "except SystemExit as e: assert not e.code, e.code\n"
        "heavy = {'chromadb', 'numpy', 'sqlite3', 'filelock', 're2', 'reposyncd.app.workspace', 'http', 'email'}\n"
        "heavy |= {'rich', 'msgspec'}\n"
        "print(sorted(heavy & sys.modules.keys()))\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", script, *arguments], env=environ(tmp_path), capture_output=True, text=True, cwd=tmp_path
    )
    assert out.stdout.splitlines()[-1] == "[]", out.stderr
