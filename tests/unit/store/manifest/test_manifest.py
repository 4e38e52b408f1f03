from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from reposyncd.errors import CorruptStoreError, ReposyncError, UsageError
from reposyncd.model import ChunkRow, DirectoryRow, FileRow, FileStat, RootIdentity, Skip, Verdict
from reposyncd.store.manifest.catalog import Catalog, Generation, collection_name
from reposyncd.store.manifest.commits import Commit, FileCommit
from reposyncd.store.manifest.database import Database
from reposyncd.store.manifest.manifest import Manifest
from reposyncd.store.manifest.schema import MIGRATIONS
from reposyncd.sync.plan import chunk_id, text_digest

SIGNED = DirectoryRow(b"signature", b"rules", 2, {"binary": 1}, ("build",))


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    with Database(str(tmp_path / "manifest.db")) as db:
        yield db


@pytest.fixture
def generation(db: Database) -> Generation:
    catalog = Catalog(db)
    return catalog.add_generation(catalog.add_repo("r", "/r", RootIdentity(1, 2)), "print", "serving")


@pytest.fixture
def manifest(db: Database, generation: Generation) -> Manifest:
    return Manifest(db, generation)


def counts(db: Database, generation: Generation) -> tuple[int, int]:
    now = Catalog(db).generation(generation.id)
    return now.files, now.chunks


def file(path: str, *texts: str, skip: Skip | None = None, digest: str = "ab" * 16) -> FileCommit:
    rows = tuple(
        ChunkRow(chunk_id("r", path, text_digest(text), 0), path, n, n, "", "text", text_digest(text))
        for n, text in enumerate(texts, 1)
    )
    return FileCommit(FileRow(path, FileStat(1, 2, 3, 4), 5, digest, skip), rows)


def test_a_committed_file_is_read_back_as_it_was(manifest: Manifest) -> None:
    commit = file("src/a.py", "one", "two")
    manifest.commit(Commit(files=[commit]))
    assert manifest.files("src") == {"src/a.py": commit.row}
    assert manifest.chunks("src/a.py") == list(commit.chunks)
    assert sorted(row.id for row in manifest.all_chunks()) == sorted(row.id for row in commit.chunks)


def test_names_of_any_sort_are_read_back(manifest: Manifest) -> None:
    names = ["new\nline", "it's", 'quo"te', "%_", "漢字", "a" * 255]
    manifest.commit(Commit(files=[file(name, "t") for name in names]))
    assert set(manifest.files("")) == set(names)


def test_a_second_commit_of_a_file_replaces_its_chunks(db: Database, generation: Generation) -> None:
    manifest = Manifest(db, generation)
    manifest.commit(Commit(files=[file("a", "one", "two")]))
    manifest.commit(Commit(files=[file("a", "two", "three", "four")]))
    assert [row.digest for row in manifest.chunks("a")] == [text_digest(t) for t in ("two", "three", "four")]
    assert counts(db, generation) == (1, 3)


def test_the_counts_follow_every_commit(db: Database, generation: Generation) -> None:
    manifest = Manifest(db, generation)
    manifest.commit(Commit(files=[file("a", "1"), file("b", "2", "3"), file("c", skip=Skip.BINARY)]))
    assert counts(db, generation) == (2, 3)
    manifest.commit(Commit(files=[file("a", skip=Skip.SECRET)], gone=["b", "never recorded"]))
    assert counts(db, generation) == (0, 0)
    manifest.commit(Commit(files=[file("c", "4")]))
    assert counts(db, generation) == (1, 1)


def test_intents_last_until_they_are_fulfilled(manifest: Manifest) -> None:
    commit = file("a", "one", "two")
    manifest.begin(commit.chunks[:1], commit.chunks[1:])
    assert manifest.intents().pending == (commit.chunks[0].id,)
    assert manifest.intents().relabelled == ((commit.chunks[1].id, "a"),)
    manifest.commit(Commit(files=[commit], done=[row.id for row in commit.chunks], doomed=[("0" * 32, "old")]))
    assert manifest.intents().doomed == ("0" * 32,)
    manifest.forget(["0" * 32])
    assert not manifest.intents()


def test_recording_a_file_clears_the_signature_of_its_directory(manifest: Manifest) -> None:
    manifest.commit(Commit(files=[file("d/a", "1"), file("e/b", "2")]))
    manifest.put_directories({"d": SIGNED, "e": SIGNED}, [])
    assert manifest.directories() == {"d": SIGNED, "e": SIGNED}
    manifest.commit(Commit(files=[file("d/a", "2")]))
    assert manifest.directories() == {"d": None, "e": SIGNED}
    manifest.commit(Commit(gone=["e/b"]))
    assert manifest.directories() == {"d": None, "e": None}


def test_touching_a_file_keeps_its_chunks_and_clears_the_signature(manifest: Manifest) -> None:
    commit = file("d/a", "1")
    manifest.commit(Commit(files=[commit]))
    manifest.put_directories({"d": SIGNED}, [])
    touched = commit.row._replace(stat=FileStat(9, 9, 9, 9), recorded_ns=99)
    manifest.commit(Commit(touched=[touched]))
    assert manifest.files("d") == {"d/a": touched}
    assert manifest.chunks("d/a") == list(commit.chunks)
    assert manifest.directories() == {"d": None}


def test_a_gone_directory_is_forgotten_unless_it_still_has_files(manifest: Manifest) -> None:
    manifest.commit(Commit(files=[file("d/a", "1"), file("e/b", "2")]))
    manifest.commit(Commit(gone=["d/a"]))
    manifest.put_directories({}, ["d", "e"])
    assert set(manifest.directories()) == {"e"}


def test_sources_name_a_live_chunk_of_the_same_text(manifest: Manifest, db: Database) -> None:
    commit = file("a", "shared", "own")
    manifest.commit(Commit(files=[commit]))
    wanted = {text_digest("shared"), text_digest("unknown")} | {text_digest(str(n)) for n in range(2000)}
    assert manifest.sources(wanted) == {text_digest("shared"): commit.chunks[0].id}


def test_generations_do_not_see_each_other(db: Database, generation: Generation) -> None:
    catalog = Catalog(db)
    [repo] = catalog.repos()
    other = catalog.add_generation(repo, "other print", "building")
    Manifest(db, generation).commit(Commit(files=[file("a", "1")]))
    assert Manifest(db, other).files("") == {}
    assert Manifest(db, other).sources([text_digest("1")]) == {}
    Manifest(db, other).commit(Commit(files=[file("a", "2")]))
    catalog.switch(repo, other)
    assert [g.state for g in catalog.generations(repo)] == ["doomed", "serving"]
    catalog.forget(generation)
    assert [g.id for g in catalog.generations(repo)] == [other.id]
    assert db.row("SELECT count(*) FROM chunk") == (1,)


def test_distrusted_files_are_forgotten_and_their_records_are_nobodys(manifest: Manifest) -> None:
    manifest.commit(Commit(files=[file("a", "1"), file("b", "2")]))
    manifest.invalidate(["a"])
    assert set(manifest.files("")) == {"b"}
    assert not manifest.intents()


def test_a_failed_transaction_leaves_nothing(db: Database, generation: Generation) -> None:
    manifest = Manifest(db, generation)
    broken = FileCommit(file("b").row, file("b", "x", "x").chunks)  # the same id twice
    with pytest.raises(ReposyncError):
        manifest.commit(Commit(files=[file("a", "1"), broken]))
    assert manifest.files("") == {}
    assert counts(db, generation) == (0, 0)


def test_a_name_or_a_root_is_taken_once(db: Database, generation: Generation) -> None:
    catalog = Catalog(db)
    with pytest.raises(UsageError, match='"r" is taken by /r'):
        catalog.add_repo("r", "/elsewhere", RootIdentity(1, 3))
    with pytest.raises(UsageError, match='/r is already indexed, under the name "r"'):
        catalog.add_repo("s", "/r", RootIdentity(1, 2))


def test_collection_names_are_ones_that_chroma_takes() -> None:
    for repo in ["app", "my app!", "漢字", "...", "-x-", "a" * 300]:
        name = collection_name(repo, "0a1b2c3d")
        assert 3 <= len(name) <= 512
        assert name[0].isalnum()
        assert name[-1].isalnum()
        assert all(c.isascii() and (c.isalnum() or c in "._-") for c in name)


def test_the_file_and_its_journal_are_private(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with Database(str(tmp_path / "manifest.db")) as db:
            Catalog(db).add_repo("r", "/r", RootIdentity(1, 2))
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    finally:
        os.umask(before)
    assert modes["manifest.db-wal"] == 0o600
    assert set(modes.values()) == {0o600}


def test_every_acknowledged_write_is_synced_to_disk(db: Database) -> None:
    assert db.row("PRAGMA journal_mode") == ("wal",)
    assert db.row("PRAGMA synchronous") == (2,)


def test_a_file_of_a_newer_version_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "manifest.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 999")
    before = path.read_bytes()
    with pytest.raises(ReposyncError, match="newer reposyncd"):
        Database(str(path))
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_corrupt(tmp_path: Path) -> None:
    path = tmp_path / "manifest.db"
    path.write_bytes(b"this is not a database" * 100)
    with pytest.raises(CorruptStoreError, match=r"manifest\.db"):
        Database(str(path))


def test_a_second_connection_of_the_same_process_does_not_drop_the_locks_of_the_first(tmp_path: Path) -> None:
    path = tmp_path / "manifest.db"
    with Database(str(path)) as first:
        Catalog(first).add_repo("r", "/r", RootIdentity(1, 2))
        with Database(str(path)):
            pass
        # Another process that opens and closes it would now delete the write-ahead log under the first.
        script = (
            f"import sqlite3; d = sqlite3.connect({str(path)!r}); d.execute('SELECT * FROM repo').fetchall(); d.close()"
        )
        subprocess.run([sys.executable, "-c", script], check=True)
        assert (tmp_path / "manifest.db-wal").exists()


def test_a_verdict_is_remembered_with_its_file_until_that_has_another_content(manifest: Manifest) -> None:
    plain, left_out, sound = file("a/b.c", "one"), file("c.c", skip=Skip.QUARANTINED), file("a/d.c", "two")
    plain = replace(plain, row=plain.row._replace(verdict="it stalls"))
    left_out = replace(left_out, row=left_out.row._replace(verdict="it raises"))
    manifest.commit(Commit(files=[plain, left_out, sound]))
    assert manifest.verdicts() == [Verdict("c.c", False, "it raises"), Verdict("a/b.c", True, "it stalls")]
    assert manifest.files("a")["a/b.c"] == plain.row
    manifest.commit(Commit(touched=[plain.row._replace(recorded_ns=99)]))
    assert [each.path for each in manifest.verdicts()] == ["c.c", "a/b.c"]
    manifest.commit(Commit(files=[file("a/b.c", "three", digest="cd" * 16)], gone=["c.c"]))
    assert manifest.verdicts() == []


def test_files_that_an_older_version_left_out_have_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "manifest.db"
    with sqlite3.connect(path) as connection:
        connection.executescript("".join(MIGRATIONS[:2]))
        connection.execute("INSERT INTO repo (id, name, root, device, inode) VALUES (1, 'r', '/r', 1, 2)")
        connection.execute(
            "INSERT INTO generation (id, repo, collection, fingerprint, state) VALUES (1, 1, 'c', 'f', 'serving')"
        )
        connection.execute("INSERT INTO directory (id, generation, path) VALUES (1, 1, '')")
        connection.executemany(
            "INSERT INTO file (directory, name, size, mtime_ns, ctime_ns, inode, recorded_ns, digest, skip)"
            " VALUES (1, ?, 1, 2, 3, 4, 5, x'00', ?)",
            [("a.c", None), ("b.c", "quarantined"), ("c.c", "binary")],
        )
        connection.execute("PRAGMA user_version = 2")
    with Database(str(path)) as db:
        [repo] = Catalog(db).repos()
        [generation] = Catalog(db).generations(repo)
        assert Manifest(db, generation).verdicts() == [Verdict("b.c", False, "storing it failed")]
        plan = db.rows(
            "EXPLAIN QUERY PLAN SELECT path FROM file CROSS JOIN directory ON directory.id = file.directory"
            " WHERE verdict IS NOT NULL AND generation = 1"
        )
        assert "file_verdict" in str(plan)  # a sync with nothing to do asks that too
