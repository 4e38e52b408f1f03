from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from reposyncd.app import operations
from reposyncd.app.processes import Processes
from reposyncd.app.workspace import Workspace
from reposyncd.embedding import EmbedderSpec, create
from reposyncd.errors import CorruptManifestError, CorruptStoreError, TransientStoreError
from reposyncd.store.manifest.catalog import Repo
from reposyncd.store.memory import MemoryAdmin
from reposyncd.store.process.supervisor import IndexProcess
from reposyncd.sync.repos import find
from reposyncd.sync.verify import Steps, ended
from tests.support import Lab, config_for, memory_index, write

TOGETHER_S = 0.5
"""How long the thread that makes an index waits for another that does the same, and must not come."""


def test_threads_that_ask_for_the_index_at_the_same_time_get_the_same_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, making = Processes._index_process, threading.Barrier(2)

    def slowly(self: Processes, *arguments: Any) -> IndexProcess:
        with suppress(threading.BrokenBarrierError):
            making.wait(TOGETHER_S)
        return make(self, *arguments)

    monkeypatch.setattr(Processes, "_index_process", slowly)
    with Workspace(config_for(tmp_path)) as workspace, ThreadPoolExecutor(2) as threads:
        one, other = threads.map(lambda _: workspace.index, range(2))
    assert one is other


def test_who_asks_for_the_index_after_the_end_gets_none_that_nobody_would_close(tmp_path: Path) -> None:
    workspace = Workspace(config_for(tmp_path))
    workspace.close()
    with pytest.raises(TransientStoreError, match="closed"):
        _ = workspace.index


def repo_of(workspace: Workspace, root: Path) -> Repo:
    repo = find(workspace.catalog, str(root), None)
    assert repo
    return repo


def comparison(workspace: Workspace, root: Path) -> Steps:
    return operations.verification(
        workspace, repo_of(workspace, root), repair=True, on_progress=lambda progress: None, should_stop=lambda: False
    )


def records(workspace: Workspace, root: Path) -> int:
    [generation] = workspace.catalog.generations(repo_of(workspace, root))
    return len(workspace.index.ids(generation.collection))


def renew_manifest(workspace: Workspace) -> None:
    state = workspace._state
    state.close()
    for each in Path(state.path).glob("manifest.db*"):
        each.unlink()
    (Path(state.path) / "manifest.db").write_bytes(b"no database" * 1000)
    state.renew_manifest(CorruptManifestError("damaged"), 1)


@pytest.mark.parametrize("steps", range(4))
def test_a_comparison_touches_no_other_repository_when_the_manifest_is_made_anew_meanwhile(
    tmp_path: Path, steps: int
) -> None:
    roots = [tmp_path / name for name in "abc"]
    for root in roots:
        write(root, {"one.py": f"{root.name} = 1\n", "two.py": f"{root.name} = 2\n"})
    with Workspace(config_for(tmp_path / "state"), index=memory_index()) as workspace:
        for root in roots:
            operations.sync(workspace, str(root))
        operations.remove(
            workspace, "a"
        )  # so that the numbers of the others are not those that they get in a new manifest
        compared = comparison(workspace, roots[1])
        for _ in range(steps):
            next(compared)
        renew_manifest(workspace)
        for root in roots[1:]:
            operations.sync(workspace, str(root))
        found = ended(compared)
        assert (found.records, found.counts, found.pending) == (2, {}, 0)
        assert [records(workspace, root) for root in roots[1:]] == [2, 2]


@pytest.mark.parametrize("steps", range(4))
def test_a_rebuild_that_ends_in_the_middle_of_a_comparison_is_no_damage(tmp_path: Path, steps: int) -> None:
    write(tmp_path / "a", {"one.py": "a = 1\n"})
    with Workspace(config_for(tmp_path / "state"), index=memory_index()) as workspace:
        operations.sync(workspace, str(tmp_path / "a"))
        compared = comparison(workspace, tmp_path / "a")
        for _ in range(steps):
            next(compared)
        workspace.__dict__["fingerprint"] = f"another; {workspace.fingerprint}"
        operations.sync(workspace, str(tmp_path / "a"))
        found = ended(compared)
        assert (found.records, found.counts) == (1, {})


def test_an_index_that_waits_to_be_rebuilt_with_another_model_is_not_taken_for_damaged(tmp_path: Path) -> None:
    write(tmp_path / "a", {"one.py": "def unlock(door):\n    return door.open()\n"})
    index = memory_index()
    with Workspace(config_for(tmp_path / "state"), index=index) as workspace:
        operations.sync(workspace, str(tmp_path / "a"))
    index._embed = create(EmbedderSpec("static")).embed
    config = config_for(tmp_path / "state", REPOSYNCD_EMBEDDING__MODEL="static")
    with Workspace(config, index=index) as workspace:
        found = ended(comparison(workspace, tmp_path / "a"))
        assert (found.records, found.counts, found.vectors) == (1, {}, 0)
        assert records(workspace, tmp_path / "a") == 1


def test_one_comparison_of_the_records_is_enough(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "tree", tmp_path / "state")
    lab.write({"one.py": "a = 1\n", "two.py": "b = 2\n"})
    lab.sync()
    with lab.workspace() as workspace:
        [generation] = lab.generations(workspace)
        lab.index.delete(generation.collection, [min(lab.records())]).result()
    lab.write({"three.py": "c = 3\n"})
    lab.sync()
    with lab.workspace() as workspace:
        [generation] = lab.generations(workspace)
        assert generation.checked


def test_a_store_that_is_too_damaged_to_be_opened_is_replaced_at_the_start(tmp_path: Path) -> None:
    index = memory_index()

    class Damaged(MemoryAdmin):
        damaged = True

        def ensure(self) -> None:
            if self.damaged:
                raise CorruptStoreError("its file is no database")

        def inspect(self, collections: Sequence[str], on_wait: Callable[[], None]) -> None:
            self.ensure()

        def quarantine(self) -> str:
            self.damaged = False
            return super().quarantine()

    with Workspace(config_for(tmp_path), index=index, store=Damaged(index.store)) as workspace:
        workspace.open()
        [incident] = workspace.catalog.incidents()
        assert "its file is no database" in incident.reason
