"""What a store that is given up gives back."""

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
from reposyncd.store.chroma.salvage import SALVAGE, salvage
from reposyncd.store.chroma.salvaging import take_out
from tests.crash.faults import PROJECT, StoreLab, functions, many_files
from tests.crash.test_broken_store import delete, empty, garble, segment, store, truncate, zero
from tests.crash.test_passing_trouble import needs_strace

SAMPLED = 3
"""Texts of each source that are embedded to see whether the rest is to be trusted."""


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> StoreLab:
    """An index of which most vectors are in Chroma's files, and twenty in its log."""
    place = tmp_path_factory.mktemp("sound")
    lab = StoreLab(place / "tree", place / "state")
    lab.write(many_files(30))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reposyncd.store.chroma.checkpoint.LOG_ROWS", 0)
        lab.sync()
    lab.write({f"logged/{n}.py": functions(f"l{n}") for n in range(20)})
    lab.sync()
    return lab


@pytest.fixture
def lab(sound: StoreLab, tmp_path: Path) -> StoreLab:
    """The same, to be damaged."""
    copy = StoreLab(sound.root, tmp_path / "state")
    shutil.copytree(sound.state, copy.state, symlinks=True)
    copy.sync()
    return copy


def incident(lab: StoreLab) -> str:
    with lab.workspace() as workspace:
        [found] = [each for each in workspace.catalog.incidents() if each.what == "store"]
    return found.reason


@pytest.mark.parametrize(
    ("name", "damage", "lost"),
    [
        ("link_lists.bin", garble, 0.0),
        ("length.bin", zero, 0.0),
        ("data_level0.bin", truncate, 0.6),
        ("data_level0.bin", garble, 0.8),
        ("index_metadata.pickle", delete, 0.8),
        ("header.bin", empty, 0.8),
        ("../chroma.sqlite3", garble, 0.3),
        ("../chroma.sqlite3", truncate, 0.3),
    ],
)
def test_what_is_sound_in_a_damaged_store_is_not_embedded_again(
    lab: StoreLab, name: str, damage: Callable[[Path], None], lost: float
) -> None:
    wanted = len(lab.committed())
    damage(segment(lab) / name)
    result = lab.mend()
    assert (lab.state / "quarantine" / "chroma").exists()
    assert result.chunks.embedded <= lost * wanted + 2 * SAMPLED
    assert f"of its {wanted} vectors could be kept" in incident(lab)
    assert not (lab.state / SALVAGE).exists()


def test_an_index_that_says_it_is_endless_is_read_to_its_end(lab: StoreLab) -> None:
    header = segment(lab) / "header.bin"
    content = header.read_bytes()
    header.write_bytes(content[:20] + (1 << 60).to_bytes(8, "little") + content[28:])
    wanted = len(lab.committed())
    assert lab.mend().chunks.embedded <= 2 * SAMPLED
    assert f"of its {wanted} vectors could be kept" in incident(lab)


def test_a_log_that_says_it_is_endless_keeps_nobody_from_the_index_files(lab: StoreLab) -> None:
    with sqlite3.connect(store(lab) / "chroma.sqlite3") as db:
        db.execute(
            "UPDATE embeddings_queue SET seq_id = 1 << 60 WHERE seq_id = (SELECT max(seq_id) FROM embeddings_queue)"
        )
    db.close()
    wanted = len(lab.committed())
    with lab.workspace() as workspace:
        arguments = (str(store(lab)), str(lab.state / "manifest.db"), workspace.fingerprint)
    assert salvage(str(lab.state), *arguments, lambda: None) == f"{wanted - 1} of its {wanted} vectors could be kept"


def test_the_vectors_of_one_embedder_are_not_kept_beside_those_of_another(lab: StoreLab, tmp_path: Path) -> None:
    with lab.workspace() as workspace:
        fingerprint = workspace.fingerprint
    target, manifest = str(tmp_path / "target.db"), lab.state / "manifest.db"
    first = take_out(str(store(lab)), str(manifest), fingerprint, target)
    assert take_out(str(store(lab)), str(manifest), fingerprint, target) == first
    with sqlite3.connect(manifest) as db:
        db.execute("UPDATE generation SET fingerprint = 'another'")
        db.execute("DELETE FROM chunk WHERE file % 2")
    db.close()
    second = take_out(str(store(lab)), str(manifest), "another", target)
    assert 0 < second.kept < first.kept
    with sqlite3.connect(target) as db:
        assert db.execute("SELECT count(*) FROM vector").fetchone() == (second.kept,)
    db.close()


def test_the_index_files_are_compared_with_their_checksums_once(
    lab: StoreLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many collections they belong to."""
    other = StoreLab(tmp_path / "other", lab.state, name="other")
    other.write(many_files(5))
    monkeypatch.setattr("reposyncd.store.chroma.checkpoint.LOG_ROWS", 0)
    with other.workspace() as workspace:
        operations.sync(workspace, str(other.root), "other")
        fingerprint = workspace.fingerprint
    assert len(list(store(lab).glob("*/index_metadata.pickle"))) == 2
    compared: list[str] = []
    monkeypatch.setattr("reposyncd.store.chroma.checksums.check", compared.append)
    take_out(str(store(lab)), str(lab.state / "manifest.db"), fingerprint, str(tmp_path / "target.db"))
    assert compared == [str(store(lab))]


def test_a_pickle_that_calls_something_is_not_obeyed(lab: StoreLab, tmp_path: Path) -> None:
    evil = b"cos\nmkdir\n(S'" + str(tmp_path / "called").encode() + b"'\ntR."
    (segment(lab) / "index_metadata.pickle").write_bytes(evil)
    lab.mend()
    assert not (tmp_path / "called").exists()


def test_a_vector_whose_text_is_not_the_one_on_record_is_not_kept(lab: StoreLab) -> None:
    garble(segment(lab) / "header.bin")
    with sqlite3.connect(store(lab) / "chroma.sqlite3") as db:
        db.execute("UPDATE embeddings_queue SET metadata = replace(metadata, 'argument', 'changed')")
    db.close()
    assert lab.mend().chunks.embedded == len(lab.committed())


def test_vectors_that_the_embedder_would_not_give_are_not_taken(lab: StoreLab) -> None:
    garble(segment(lab) / "header.bin")
    with sqlite3.connect(store(lab) / "chroma.sqlite3") as db:
        [(vector,)] = db.execute("SELECT vector FROM embeddings_queue LIMIT 1").fetchall()
        db.execute("UPDATE embeddings_queue SET vector = ?", (vector[512:] + vector[:512],))
    db.close()
    assert lab.mend().chunks.embedded == len(lab.committed())


def test_a_salvage_that_hangs_is_ended_and_said_so(
    lab: StoreLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reposyncd.store.chroma.salvage._STARTS_S", 0.0)
    monkeypatch.setattr("reposyncd.store.chroma.salvage._ON_WAIT_S", 0.05)
    (tmp_path / "store").mkdir()
    os.mkfifo(tmp_path / "store" / "chroma.sqlite3")  # nobody ever writes to it
    arguments = (str(lab.state), str(tmp_path / "store"), str(lab.state / "manifest.db"), "fingerprint")
    assert "is embedded again" in salvage(*arguments, lambda: None)


BAD_SECTOR = """
import sys
from pathlib import Path
from reposyncd.sync import damage
from tests.support import config_for, later_ns
from reposyncd.app import operations
from reposyncd.app.workspace import Workspace
damage.UNREADABLE_S, damage.BACK_OFF_S = 0.0, (0.0, 0.0)
state, root = sys.argv[1:]
with Workspace(config_for(Path(state)), {"HOME": "/nonexistent"}, now_ns=later_ns) as workspace:
    print(operations.sync(workspace, root, "lab").chunks.embedded)
"""


@needs_strace
def test_a_file_that_the_disk_does_not_give_back_any_more_comes_to_an_end(lab: StoreLab, tmp_path: Path) -> None:
    wanted = len(lab.committed())
    path = segment(lab) / "data_level0.bin"
    os.utime(path)  # what was not touched is not read
    inject = ["-P", str(path), "-e", "inject=read,pread64:error=EIO", "-o", str(tmp_path / "trace")]
    ended = subprocess.run(
        ["strace", "-f", "-qqq", *inject, "--", sys.executable, "-c", BAD_SECTOR, str(lab.state), str(lab.root)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    assert "data_level0.bin cannot be read: Input/output error, for" in incident(lab)
    assert int(ended.stdout) <= wanted
    assert lab.mend().chunks.embedded == 0
