"""The store stamp knows a store that was only read, and notices every write; on a real Chroma."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from reposyncd.store.chroma.stamp import PERSISTED, Stamp, of_files, recognise, take
from tests.unit.store.stores import LOGGED, VECTOR, Foreign, read


def test_who_only_reads_changes_files_and_not_what_the_stamp_says(store: Path) -> None:
    before = take(str(store))
    for _ in range(2):
        read(store)
        assert of_files(str(store)) != before.files
        after = recognise(before, str(store))
        assert after
        assert after.files == of_files(str(store))
        assert recognise(after, str(store)) is after


def test_a_stamp_of_a_store_that_another_client_has_open_knows_it_when_that_one_reads_on(store: Path) -> None:
    with Foreign(store) as foreign:
        foreign.of(3).count()
        before = take(str(store))
        foreign.read()
    assert recognise(before, str(store))


WRITES: dict[str, Callable[[Foreign], object]] = {
    "a metadata update": lambda foreign: foreign.of(3).update(ids=["3-0"], metadatas=[{"line": 99}]),
    "a text": lambda foreign: foreign.of(3).update(ids=["3-0"], documents=["another"], embeddings=VECTOR),
    "a delete": lambda foreign: foreign.of(300).delete(ids=["300-7"]),
    "a delete in a small one": lambda foreign: foreign.of(1).delete(ids=["1-0"]),
    "a delete in the log": lambda foreign: foreign.of(LOGGED).delete(ids=[f"{LOGGED}-0"]),
    "a record": lambda foreign: foreign.of(0).add(ids=["new"], documents=["new"], embeddings=VECTOR),
    "a collection's metadata": lambda foreign: foreign.of(2).modify(metadata={"theirs": 1}),
    "a collection": lambda foreign: foreign.client.create_collection("theirs", embedding_function=None),
    "a drop": lambda foreign: foreign.client.delete_collection("has-0"),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
def test_every_write_of_another_client_is_noticed_however_often_the_store_is_read_after_it(
    store: Path, write: Callable[[Foreign], object]
) -> None:
    before = take(str(store))
    with Foreign(store) as foreign:
        write(foreign)
        foreign.read()
    read(store)
    assert recognise(before, str(store)) is None


def in_the_database(statement: str) -> Callable[[Path], None]:
    def tamper(store: Path) -> None:
        with sqlite3.connect(store / "chroma.sqlite3") as database:
            assert database.execute(statement).rowcount
        database.close()

    return tamper


def in_the_bytes(store: Path) -> None:
    """A text is another one, and the header of the database knows nothing of it."""
    path = store / "chroma.sqlite3"
    content = path.read_bytes()
    assert b"text 300-7" in content
    path.write_bytes(content.replace(b"text 300-7", b"TEXT 300-7"))


def truncate(store: Path) -> None:
    os.truncate(store / "chroma.sqlite3", (store / "chroma.sqlite3").stat().st_size // 2)


@pytest.mark.parametrize(
    "tamper",
    [
        in_the_database("UPDATE embedding_metadata SET string_value = 'x' WHERE key = 'chroma:document'"),
        in_the_database("UPDATE embedding_metadata SET int_value = 7 WHERE key = 'line'"),
        in_the_database("DELETE FROM embeddings_queue WHERE seq_id = 1"),
        in_the_bytes,
        truncate,
        lambda store: (store / "chroma.sqlite3").unlink(),
        lambda store: (store / "chroma.sqlite3").write_bytes(b""),
        lambda store: os.utime(store / "chroma.sqlite3", ns=(0, 0)),
        lambda store: (store / "more").touch(),
    ],
)
def test_what_is_done_to_the_files_is_noticed(store: Path, tamper: Callable[[Path], None]) -> None:
    before = take(str(store))
    tamper(store)
    assert recognise(before, str(store)) is None


@pytest.mark.parametrize("name", [PERSISTED, "data_level0.bin", "length.bin"])
@pytest.mark.parametrize("damage", [os.unlink, lambda path: os.truncate(path, 1), os.utime])
def test_what_is_done_to_the_index_files_is_noticed_though_the_store_was_read_since(
    store: Path, name: str, damage: Callable[[Path], None]
) -> None:
    persisted = sorted(path.parent for path in store.glob(f"*/{PERSISTED}"))
    before = take(str(store))
    damage(persisted[0] / name)
    with sqlite3.connect(store / "chroma.sqlite3") as database:  # as whoever opens it does
        database.execute("INSERT INTO acquire_write (lock_status) VALUES (1)")
    database.close()
    assert recognise(before, str(store)) is None


def test_an_older_copy_is_noticed_though_as_much_was_written_to_it_since(store: Path, tmp_path: Path) -> None:
    shutil.copytree(store, tmp_path / "copy")
    with Foreign(store) as foreign:
        foreign.of(3).delete(ids=["3-0"])
    before = take(str(store))
    shutil.copyfile(tmp_path / "copy" / "chroma.sqlite3", store / "chroma.sqlite3")
    assert recognise(before, str(store)) is None
    with Foreign(store) as foreign:
        foreign.of(3).delete(ids=["3-1"])
    assert recognise(before, str(store)) is None


def test_what_a_crash_left_of_a_transaction_is_not_undone_and_not_recognised(store: Path) -> None:
    before = take(str(store))
    dies = (
        "import os, sqlite3, sys\n"
        "database = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "database.execute('PRAGMA cache_size = 1')\n"
        "database.execute('BEGIN IMMEDIATE')\n"
        "database.execute('CREATE TABLE spill AS SELECT * FROM embedding_metadata')\n"
        "database.execute('UPDATE embeddings SET created_at = 0')\n"
        "os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", dies, str(store / "chroma.sqlite3")], check=True)
    journal = store / "chroma.sqlite3-journal"
    assert journal.stat().st_size
    assert recognise(before, str(store)) is None
    assert journal.stat().st_size


def test_a_database_that_is_locked_cannot_be_told_and_is_not_waited_for_long(store: Path) -> None:
    before = take(str(store))
    read(store)
    # By another process: a lock of this one would end as soon as Chroma closes the file, whenever that is.
    locks = (
        "import sqlite3, sys; database = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "database.execute('BEGIN EXCLUSIVE'); print('locked', flush=True); sys.stdin.read()"
    )
    holder = [sys.executable, "-c", locks, str(store / "chroma.sqlite3")]
    with subprocess.Popen(holder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdout.readline() == "locked\n"
        assert recognise(before, str(store)) is None
        assert take(str(store)).content == ""
        process.communicate("")
    assert recognise(before, str(store))


def test_a_database_with_a_write_ahead_log_is_known_by_its_files_alone(store: Path) -> None:
    with sqlite3.connect(store / "chroma.sqlite3") as database:
        database.execute("PRAGMA journal_mode = WAL")
    database.close()
    stamp = take(str(store))
    assert stamp == Stamp(of_files(str(store)))
    assert recognise(stamp, str(store)) == stamp


def test_a_stamp_is_what_was_made_of_its_text() -> None:
    for stamp in (Stamp("a", "b", 3, "4:5"), Stamp("a"), Stamp("")):
        assert Stamp.parse(str(stamp)) == stamp
    assert not Stamp("").is_unwritten(Stamp(""))
    assert Stamp.parse("a b c d e") == Stamp("a b c d e")


def test_a_stamp_of_the_files_alone_is_made_whole_when_the_store_is_recognised(store: Path) -> None:
    """All that the version before this one recorded."""
    whole = recognise(Stamp(of_files(str(store))), str(store))
    assert whole
    assert whole.content
    read(store)
    assert recognise(whole, str(store))
    assert recognise(Stamp(whole.files), str(store)) is None


def test_the_files_alone_tell_of_every_change(tmp_path: Path) -> None:
    (tmp_path / "segment").mkdir()
    (tmp_path / "segment" / "length.bin").write_bytes(b"x")
    before = of_files(str(tmp_path))
    (tmp_path / ".chroma.lock").touch()
    assert of_files(str(tmp_path)) == before
    (tmp_path / "segment" / "length.bin").write_bytes(b"y")
    assert of_files(str(tmp_path)) != before
