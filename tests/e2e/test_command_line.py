"""The program as it is run: arguments, output, exit codes, signals."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.program import PROGRAM, environ, run
from tests.support import Lab, index_process, write

TREE = {
    "door.py": "def open_door(key):\n    return unlock(key)\n",
    "http.py": "class HttpServer:\n    def listen(self, port):\n        bind(port)\n",
    "notes.md": "# Notes\n\nWater the plants.\n",
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    write(tmp_path / "tree", TREE)
    return tmp_path / "tree"


def test_sync_then_search_finds_the_code(tmp_path: Path, tree: Path) -> None:
    first = run(tmp_path, "sync", str(tree))
    assert first.returncode == 0, first.stderr
    assert "tree: 3 files, 3 chunks are indexed" in first.stdout
    assert "3 new, 0 modified, 0 deleted" in first.stdout
    second = run(tmp_path, "sync", "tree")
    assert "nothing changed" in second.stdout
    found = run(tmp_path, "search", "-n", "1", "http", "server")
    assert "http.py:1-3" in found.stdout
    assert "HttpServer" in found.stdout


def test_json_is_the_documented_result_and_nothing_else(tmp_path: Path, tree: Path) -> None:
    result = json.loads(run(tmp_path, "sync", str(tree), "--name", "mine", "--json").stdout)
    assert result.keys() == {"repo", "root", "files", "chunks", "bytes_read", "duration_s", "errors"}
    assert result["repo"] == "mine"
    counts = {"total": 3, "new": 3, "modified": 0, "deleted": 0, "unchanged": 0, "plain": 0}
    assert result["files"] == counts | {"skipped": {}}
    assert result["chunks"] == {"total": 3, "added": 3, "relabelled": 0, "deleted": 0, "embedded": 3}
    [hit] = json.loads(run(tmp_path, "search", "door", "-n", "1", "--json").stdout)
    assert hit["path"] == "door.py"
    assert hit["text"] == TREE["door.py"]


def test_a_sync_with_nothing_to_do_imports_nothing_heavy(tmp_path: Path, tree: Path) -> None:
    import time

    written = time.time_ns()
    while time.time_ns() < written + 2_100_000_000:  # what is younger than two seconds is not trusted
        os.sched_yield()
    run(tmp_path, "sync", str(tree))
    script = (
        "import sys; from reposyncd.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'chromadb', 'numpy', 'tree_sitter', 'wordllama', 're2', 'filelock', 'rich', 'subprocess'}\n"
        "print(sorted(heavy & sys.modules.keys()))\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", script, "sync", str(tree)], env=environ(tmp_path), capture_output=True, text=True
    )
    assert "nothing changed" in out.stdout
    assert out.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["sync", "no/such/place"], 1, "no/such/place does not exist"),
        (["sync", "tree/door.py"], 1, "tree/door.py is not a directory"),
        (["sync", "--name", "a/b", "tree"], 2, "cannot be a repository's name"),
        (["search", "x"], 2, "nothing is indexed yet; index a directory with: reposyncd sync PATH"),
        (["search"], 2, "Missing argument"),
        (["search", ""], 2, "QUERY is blank"),
        (["search", " ", "\t"], 2, "QUERY is blank"),
        (["wrong"], 2, "No such command"),
    ],
)
def test_what_cannot_be_done_is_said_with_its_exit_code(
    tmp_path: Path, tree: Path, arguments: list[str], code: int, message: str
) -> None:
    out = run(tmp_path, *arguments)
    assert out.returncode == code
    assert message in out.stderr
    assert "Traceback" not in out.stderr


def test_a_wrong_configuration_exits_with_78(tmp_path: Path, tree: Path) -> None:
    out = subprocess.run(
        [*PROGRAM, "sync", str(tree)],
        env={**environ(tmp_path), "REPOSYNCD_INDEX__MAX_FILE_SIZE": "-1"},
        capture_output=True,
        text=True,
    )
    assert out.returncode == 78
    assert "it must be a whole number of at least 1" in out.stderr


def test_a_second_writer_exits_with_75_and_names_the_first(tmp_path: Path, tree: Path) -> None:
    (tmp_path / "state").mkdir()
    with (tmp_path / "state" / "reposyncd.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("4711\n")  # of one that has ended since
        lock.flush()
        out = subprocess.run(
            [*PROGRAM, "sync", str(tree)],
            env={**environ(tmp_path), "REPOSYNCD_LOCK__TIMEOUT": "0.2"},
            capture_output=True,
            text=True,
        )
    assert out.returncode == 75
    assert f"another reposyncd (process {os.getpid()}) is writing" in out.stderr


def test_a_file_that_cannot_be_read_is_named_and_the_rest_is_indexed(tmp_path: Path, tree: Path) -> None:
    # A directory that cannot be listed even by root: its path is too long.
    here = os.open(tree, os.O_RDONLY)
    for _ in range(45):
        os.mkdir("d" * 100, dir_fd=here)
        inner = os.open("d" * 100, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    out = run(tmp_path, "sync", str(tree))
    assert out.returncode == 1
    assert "3 files, 3 chunks are indexed" in out.stdout
    assert "File name too long" in out.stderr


def test_what_a_repository_holds_does_not_steer_the_terminal(tmp_path: Path, tree: Path) -> None:
    write(tree, {"evil.txt": "title \x1b]0;owned\x07 and \x1b[2J\n"})
    run(tmp_path, "sync", str(tree))
    out = run(tmp_path, "search", "-n", "9", "owned title")
    assert "owned" in out.stdout
    assert "\x1b" not in out.stdout


def test_the_terminal_has_a_progress_bar_and_a_pipe_has_lines(tmp_path: Path, tree: Path) -> None:
    write(tree, {f"many/{n}.txt": f"number {n} of many\n" * 40 for n in range(1500)})
    ours, theirs = pty.openpty()
    with subprocess.Popen([*PROGRAM, "sync", str(tree)], env=environ(tmp_path), stderr=theirs, stdout=subprocess.PIPE):
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 4096):
                shown += part
        except OSError:
            pass  # how a terminal says that nobody writes to it any more
    os.close(ours)
    assert b"indexing" in shown
    assert b"files" in shown
    write(tree, {f"more/{n}.txt": f"number {n} of more\n" * 40 for n in range(1500)})
    assert " files, " in run(tmp_path, "sync", str(tree)).stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_sync_that_is_stopped_goes_on_where_it_was(tmp_path: Path, tree: Path, number: signal.Signals) -> None:
    write(tree, {f"many/{n}.txt": f"number {n} of many\n" * 60 for n in range(6000)})
    with subprocess.Popen(
        [*PROGRAM, "sync", str(tree), "--name", "lab"], env=environ(tmp_path), stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr
        while not stored_chunks(tmp_path / "state"):
            assert process.poll() is None
        process.send_signal(number)
        rest = process.stderr.read()
    if number is not signal.SIGKILL:
        assert process.returncode == 130
        assert "the next sync continues from there" in rest
    result = json.loads(run(tmp_path, "sync", str(tree), "--name", "lab", "--json").stdout)
    assert 0 < result["chunks"]["embedded"] < 6000
    assert result["files"]["total"] == 6003
    assert_records_equal_an_index_built_from_scratch(tmp_path, tree)


def stored_chunks(state: Path) -> int:
    """How many chunks have been committed; 0 while there is no manifest."""
    try:
        with contextlib.closing(sqlite3.connect(f"file:{state}/manifest.db?mode=ro", uri=True)) as db:
            return int(db.execute("SELECT coalesce(sum(chunks), 0) FROM generation").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def assert_records_equal_an_index_built_from_scratch(tmp_path: Path, tree: Path) -> None:
    state = tmp_path / "state"
    process = index_process(state, deadline_s=300)
    try:
        Lab(tree, state, index=process).assert_equals_an_index_built_from_scratch()
    finally:
        process.close()
