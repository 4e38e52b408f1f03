from __future__ import annotations

from pathlib import Path

from reposyncd.app import operations
from reposyncd.app.workspace import Workspace
from reposyncd.cli.service import _purge
from tests.support import config_for, write


def test_an_uninstall_deletes_every_file_that_a_sync_made(tmp_path: Path) -> None:
    write(tmp_path / "tree", {"a.py": "print('a')\n"})
    state = tmp_path / "state"
    with Workspace(config_for(state)) as workspace:
        operations.sync(workspace, str(tmp_path / "tree"), "a")
    assert list(state.iterdir())
    _purge(state)
    assert not state.exists()


def test_an_uninstall_deletes_nothing_of_others_and_follows_no_link(tmp_path: Path) -> None:
    state = tmp_path / "state"
    write(tmp_path, {"elsewhere/a": "", "state/notes.txt": "", "state/manifest.db-wal": "", "state/store-1/b": ""})
    (state / "chroma").symlink_to(tmp_path / "elsewhere")
    _purge(state)
    assert [each.name for each in state.iterdir()] == ["notes.txt"]
    assert (tmp_path / "elsewhere" / "a").exists()
