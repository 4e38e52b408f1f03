"""Locks of other programs on a Chroma directory."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from reposyncd.errors import StoreBusyError, TransientStoreError
from reposyncd.store.chroma.locks import chroma_lock, wait_for_database
from tests.unit.store.other_program import HOLDS_FLOCK, other_program

HOLDS_DATABASE = (
    "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); c.execute('BEGIN IMMEDIATE')"
)
READS_DATABASE = (
    "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
    " c.execute('BEGIN'); c.execute('SELECT * FROM t').fetchone()"
)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "chroma.sqlite3"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    return path


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


def test_a_lock_that_cannot_be_made_is_trouble_that_may_pass(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TransientStoreError, match="cannot be locked"), chroma_lock(str(tmp_path / "file"), 0):
        pass
