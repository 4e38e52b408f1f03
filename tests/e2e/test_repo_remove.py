"""A repository is removed where no service runs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from reposyncd.app import operations
from reposyncd.embedding import EmbedderSpec, create
from reposyncd.errors import BusyError, NotFoundError, TransientStoreError
from reposyncd.store.locks import state_lock
from reposyncd.store.memory import MemoryIndex
from tests.program import run
from tests.support import Lab, index_process, write


def collections(tmp_path: Path) -> dict[str, dict[str, str]]:
    state = tmp_path / "state"
    process = index_process(state, deadline_s=300)
    try:
        return process.collections()
    finally:
        process.close()


def test_its_index_is_dropped_and_the_rest_stays_as_it_is(tmp_path: Path) -> None:
    write(tmp_path, {"one/a.py": "print('one')\n", "two/b.py": "print('two')\n"})
    run(tmp_path, "sync", "one")
    run(tmp_path, "sync", "two")
    out = run(tmp_path, "repo", "remove", "one")
    assert (out.returncode, out.stderr) == (0, "")
    assert out.stdout == f"one: no longer tracking {tmp_path / 'one'}\n"
    assert [each["reposyncd_repo"] for each in collections(tmp_path).values()] == ["two"]
    assert [repo["name"] for repo in json.loads(run(tmp_path, "repo", "list", "--json").stdout)] == ["two"]
    assert "two" in run(tmp_path, "search", "print").stdout
    assert "nothing changed" in run(tmp_path, "sync", "two").stdout
    out = run(tmp_path, "repo", "remove", "./two", "--json")
    assert json.loads(out.stdout) == {"name": "two", "root": str(tmp_path / "two")}
    assert collections(tmp_path) == {}
    assert (tmp_path / "one" / "a.py").read_text() == "print('one')\n"


def test_one_that_is_only_noted_is_removed_too(tmp_path: Path) -> None:
    write(tmp_path, {"one/a.py": "print('one')\n"})
    run(tmp_path, "repo", "add", "one")
    assert run(tmp_path, "repo", "remove", "one").returncode == 0
    assert run(tmp_path, "repo", "list", "--json").stdout == "[]\n"
    assert not (tmp_path / "state" / "chroma").exists()


def test_one_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    out = run(tmp_path, "repo", "remove", "nobody")
    assert (out.returncode, out.stdout) == (2, "")
    assert "nothing is indexed yet" in out.stderr


def test_while_somebody_else_writes_it_is_busy(tmp_path: Path) -> None:
    write(tmp_path, {"one/a.py": "print('one')\n"})
    run(tmp_path, "sync", "one")
    with state_lock(str(tmp_path / "state"), 0):
        out = run(tmp_path, "repo", "remove", "one", REPOSYNCD_LOCK__TIMEOUT="0.2")
    assert out.returncode == BusyError.exit_code
    assert f"process {os.getpid()}" in out.stderr
    assert "one" in run(tmp_path, "repo", "list").stdout


class Stuck(MemoryIndex):
    """An index that drops nothing while it is stuck."""

    is_stuck = True

    def drop(self, collection: str) -> None:
        if self.is_stuck:
            raise TransientStoreError("the disk is full")
        super().drop(collection)


@pytest.mark.parametrize("has_nothing_else_to_do", [False, True])
def test_what_could_not_be_dropped_is_dropped_by_the_next_sync(tmp_path: Path, has_nothing_else_to_do: bool) -> None:
    write(tmp_path, {"tree/a.py": "print('a')\n", "other/b.py": "print('b')\n"})
    index = Stuck(create(EmbedderSpec("hashing")).embed)
    lab = Lab(tmp_path / "tree", tmp_path / "state", index=index)
    lab.sync()
    if has_nothing_else_to_do:
        with lab.workspace() as workspace:
            operations.sync(workspace, str(tmp_path / "other"))
    with lab.workspace() as workspace:
        removed, trouble = operations.remove(workspace, "lab")
        assert (removed.name, trouble) == ("lab", "the disk is full")
        assert "lab" not in [repo.name for repo in workspace.catalog.repos()]
        with pytest.raises(NotFoundError):
            operations.remove(workspace, "lab")
    assert "lab" in [each["reposyncd_repo"] for each in index.collections().values()]
    index.is_stuck = False
    with lab.workspace() as workspace:
        operations.sync(workspace, str(tmp_path / "other"))
        assert workspace.catalog.removed() == []
    assert [each["reposyncd_repo"] for each in index.collections().values()] == ["other"]
