"""What Chroma's database says from outside."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from reposyncd.store.chroma.database import replayed_rows
from tests.unit.store.stores import LOGGED, VECTOR, Foreign


def test_the_rows_that_are_replayed_are_counted_and_not_those_between_them(store: Path) -> None:
    """Of the persisted collections the log keeps a row each, a hundred numbers apart; a record alone stays there."""
    with sqlite3.connect(store / "chroma.sqlite3") as database:
        [first, last, rows] = database.execute(
            "SELECT min(seq_id), max(seq_id), count(*) FROM embeddings_queue"
        ).fetchone()
    database.close()
    assert last - first > 300
    assert rows > LOGGED
    assert replayed_rows(str(store)) == LOGGED
    with Foreign(store) as foreign:
        for id in ("one", "two", "three"):
            foreign.of(300).add(ids=[id], documents=[id], embeddings=VECTOR)
    assert replayed_rows(str(store)) == LOGGED + 3


def test_a_row_that_a_checkpoint_cannot_write_does_not_count(store: Path) -> None:
    with Foreign(store) as foreign:
        foreign.of(300).delete(ids=["300-7"])
    assert replayed_rows(str(store)) == LOGGED


def test_a_database_that_is_none_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        replayed_rows(str(tmp_path))
    (tmp_path / "chroma.sqlite3").write_bytes(b"nothing of the kind" * 100)
    with pytest.raises(sqlite3.DatabaseError):
        replayed_rows(str(tmp_path))
