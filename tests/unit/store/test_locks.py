"""Locks of other programs, as real ones."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reposyncd.errors import BusyError, StoreBusyError, TransientStoreError
from reposyncd.store.chroma.locks import chroma_lock, wait_for_database
from reposyncd.store.locks import holder, state_lock

HOLDS_FLOCK = "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.flock(f, fcntl.LOCK_EX)"
HOLDS_DATABASE = (
    "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); c.execute('BEGIN IMMEDIATE')"
)
READS_DATABASE = (
    "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
    " c.execute('BEGIN'); c.execute('SELECT * FROM t').fetchone()"
)


@contextmanager
def other_program(script: str, path: Path) -> Iterator[int]:
    """Does what the script says, until the end of the block."""
    script += "; print('holding', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b"holding\n"
        yield process.pid
        process.kill()


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "chroma.sqlite3"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    return path


def test_the_holder_of_a_lock_is_named_and_a_free_one_has_none(tmp_path: Path) -> None:
    lock = tmp_path / ".chroma.lock"
    assert holder(str(lock)) is None
    lock.touch()
    assert holder(str(lock)) is None
    with other_program(HOLDS_FLOCK, lock) as pid:
        assert holder(str(lock)) == pid
    assert holder(str(lock)) is None


def test_a_lock_held_for_longer_than_the_timeout_is_an_error_and_told_before(tmp_path: Path) -> None:
    told: list[str] = []
    with (
        other_program(HOLDS_FLOCK, tmp_path / ".chroma.lock"),
        pytest.raises(StoreBusyError, match=r"another program has held .*\.chroma\.lock for 0.2 s"),
        chroma_lock(str(tmp_path), 0.2, told.append),
    ):
        pass
    assert told == [f"another program holds {tmp_path / '.chroma.lock'}"]
    with chroma_lock(str(tmp_path), 0, told.append):
        assert len(told) == 1


@pytest.mark.parametrize("script", [HOLDS_DATABASE, READS_DATABASE])
def test_a_transaction_of_another_program_is_waited_for_and_its_process_named(database: Path, script: str) -> None:
    told: list[str] = []
    with database.open("rb") as file:
        with other_program(script, database) as pid:
            with pytest.raises(StoreBusyError, match=rf"\(process {pid}\) has had .* locked for 0.2 s"):
                wait_for_database(file.fileno(), str(database.parent), 0.2, told.append)
            assert len(told) == 1
        wait_for_database(file.fileno(), str(database.parent), 0)


def test_a_database_that_is_open_and_idle_is_not_waited_for(database: Path) -> None:
    idle = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT * FROM t').fetchall()"
    with other_program(idle, database), database.open("rb") as file:
        wait_for_database(file.fileno(), str(database.parent), 0)


def test_the_state_lock_names_its_holder(tmp_path: Path) -> None:
    with (
        state_lock(str(tmp_path), 0),
        pytest.raises(BusyError, match=rf"another reposyncd \(process {os.getpid()}\)"),
        state_lock(str(tmp_path), 0.1),
    ):
        pass
    with state_lock(str(tmp_path), 0):
        assert holder(str(tmp_path / "reposyncd.lock")) == os.getpid()


def test_a_lock_that_cannot_be_made_is_trouble_that_may_pass(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TransientStoreError, match="cannot be locked"), chroma_lock(str(tmp_path / "file"), 0):
        pass
