"""A store or a manifest that somebody damaged: the next sync finds it out by itself, and makes it anew."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from reposyncd.app import operations
from tests.crash.faults import StoreLab, many_files

CHECKPOINT_ALWAYS = {"reposyncd.store.chroma.checkpoint.LOG_ROWS": 0}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> StoreLab:
    """An index whose vectors are in Chroma's files, not in its log."""
    place = tmp_path_factory.mktemp("sound")
    lab = StoreLab(place / "tree", place / "state")
    lab.write(many_files(30))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CHECKPOINT_ALWAYS.items():
            patch.setattr(name, value)
        lab.sync()
    return lab


@pytest.fixture
def lab(sound: StoreLab, tmp_path: Path) -> StoreLab:
    """The same, to be damaged; the stamp knows these copies of the files, as if they had never been others."""
    copy = StoreLab(sound.root, tmp_path / "state")
    shutil.copytree(sound.state, copy.state, symlinks=True)
    assert copy.mend().chunks.added == 0
    assert segment(copy).joinpath("index_metadata.pickle").exists()
    return copy


def store(lab: StoreLab) -> Path:
    return (lab.state / "chroma").resolve()


def segment(lab: StoreLab) -> Path:
    [found] = [path for path in store(lab).iterdir() if path.is_dir()]
    return found


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def garble(path: Path) -> None:
    path.write_bytes(os.urandom(path.stat().st_size))


def delete(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("data_level0.bin", truncate),
        ("data_level0.bin", zero),
        ("header.bin", delete),
        ("length.bin", zero),
        ("link_lists.bin", garble),
        ("index_metadata.pickle", truncate),
        ("index_metadata.pickle", garble),
        ("index_metadata.pickle", delete),
    ],
)
def test_a_damaged_file_of_the_vector_index_is_made_good_by_one_sync(
    lab: StoreLab, name: str, damage: Callable[[Path], None]
) -> None:
    chunks = lab.committed()
    damage(segment(lab) / name)
    result = lab.mend()
    assert result.chunks.embedded <= len(chunks)


def test_rot_that_no_stat_betrays_is_found_and_mended_by_verify(lab: StoreLab) -> None:
    path = segment(lab) / "data_level0.bin"
    before = path.stat()
    garble(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert lab.run("verify").returncode == 1
    repaired = lab.run("verify", "--repair")
    assert repaired.returncode == 1
    assert "quarantine" in repaired.stderr
    assert lab.run("verify").returncode == 0
    assert lab.mend().chunks.embedded == 0


def test_a_vector_index_that_is_gone_is_made_good_by_one_sync(lab: StoreLab) -> None:
    chunks = lab.committed()
    shutil.rmtree(segment(lab))
    assert lab.mend().chunks.embedded == len(chunks)
    assert (lab.state / "quarantine" / "chroma" / "chroma.sqlite3").exists()


@pytest.mark.parametrize("damage", [truncate, zero, empty, garble, delete])
def test_a_damaged_database_of_the_store_is_made_good_by_one_sync(
    lab: StoreLab, damage: Callable[[Path], None]
) -> None:
    chunks = lab.committed()
    damage(store(lab) / "chroma.sqlite3")
    assert lab.mend().chunks.embedded <= len(chunks)


def test_a_store_that_is_gone_is_made_good_by_one_sync(lab: StoreLab) -> None:
    chunks = lab.committed()
    shutil.rmtree(store(lab))
    assert lab.mend().chunks.embedded == len(chunks)


def test_an_older_copy_of_the_store_is_noticed_and_brought_up_to_date(lab: StoreLab, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(lab.root, tree)
    changing = StoreLab(tree, tmp_path / "other")
    changing.sync()
    shutil.copytree(store(changing), tmp_path / "copy")
    changing.write({"new.py": "print('new')\n"})
    changing.sync()
    place = store(changing)
    shutil.rmtree(place)
    shutil.copytree(tmp_path / "copy", place)
    assert changing.mend().chunks.embedded == 1


def test_records_that_another_program_has_changed_are_made_true_again(lab: StoreLab) -> None:
    with lab.workspace() as workspace:
        [repo] = workspace.catalog.repos()
        [generation] = workspace.catalog.generations(repo)
    script = (
        "import sys, chromadb\n"
        "c = chromadb.PersistentClient(sys.argv[1]).get_collection(sys.argv[2], embedding_function=None)\n"
        "a, b, *_ = c.get()['ids']\n"
        "c.update(ids=[a], metadatas=[{'start_line': 99}])\n"
        "c.delete(ids=[b])\n"
        "vectors = c.get(ids=[a], include=['embeddings'])['embeddings']\n"
        "c.upsert(ids=['f' * 32], documents=['theirs'], embeddings=vectors)"
    )
    subprocess.run([sys.executable, "-c", script, str(store(lab)), generation.collection], check=True)
    assert lab.mend().chunks.embedded == 1


def test_an_older_copy_of_the_manifest_is_noticed_and_brought_up_to_date(lab: StoreLab, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(lab.root, tree)
    changing = StoreLab(tree, tmp_path / "other")
    changing.sync()
    shutil.copy(changing.state / "manifest.db", tmp_path / "older.db")
    changing.write({"new.py": "print('new')\n", "d0/0.py": "# moved down\n" + (tree / "d0/0.py").read_text()})
    changing.sync()
    shutil.copy(tmp_path / "older.db", changing.state / "manifest.db")
    assert changing.mend().chunks.embedded == 0


@pytest.mark.parametrize("damage", [truncate, zero, empty, garble, delete])
def test_a_damaged_manifest_is_made_anew_and_nothing_is_embedded_again(
    lab: StoreLab, damage: Callable[[Path], None]
) -> None:
    for name in ("manifest.db-wal", "manifest.db-shm"):
        (lab.state / name).unlink(missing_ok=True)
    damage(lab.state / "manifest.db")
    result = lab.mend()
    assert result.chunks.embedded == 0


def test_a_manifest_of_a_newer_version_is_moved_aside_and_said_so(lab: StoreLab) -> None:
    with sqlite3.connect(lab.state / "manifest.db") as manifest:
        manifest.execute("PRAGMA user_version = 99")
    manifest.close()
    assert lab.mend().chunks.embedded == 0
    assert (lab.state / "quarantine" / "manifest.db").exists()
    with lab.workspace() as workspace:
        [incident] = workspace.catalog.incidents()
    assert incident.what == "manifest"
    assert "newer" in incident.reason
    assert incident.place == str(lab.state / "quarantine" / "manifest.db")


def test_a_state_directory_of_which_everything_is_damaged_is_made_anew(lab: StoreLab) -> None:
    garble(lab.state / "manifest.db")
    garble(store(lab) / "chroma.sqlite3")
    lab.mend()
    with lab.workspace() as workspace:
        assert {each.what for each in workspace.catalog.incidents()} == {"manifest", "store"}


def test_a_lost_manifest_brings_back_the_other_repositories_too(lab: StoreLab, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.py").write_text("print('a')\n")
    with lab.workspace() as workspace:
        operations.sync(workspace, str(other), "other")
    (lab.state / "manifest.db").unlink()
    lab.sync()
    with lab.workspace() as workspace:
        assert [(repo.name, repo.root) for repo in workspace.catalog.repos()] == [
            ("lab", str(lab.root)),
            ("other", str(other)),
        ]
        result = operations.sync(workspace, str(other))
    assert result.chunks.total == 1
    assert result.chunks.embedded == 0
