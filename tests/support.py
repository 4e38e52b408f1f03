"""Trees declared as literals, and the oracle: an index built from scratch."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from reposyncd.app import operations
from reposyncd.app.workspace import Workspace
from reposyncd.chunking.inline import InlineChunker
from reposyncd.config import Config, load
from reposyncd.embedding import EmbedderSpec, create
from reposyncd.model import Record, SyncResult
from reposyncd.ports import Chunker, Observer, RunningIndex, StoreAdmin, Unobserved
from reposyncd.store.chroma.address import EmbeddedAddress
from reposyncd.store.manifest.catalog import Generation
from reposyncd.store.memory import MemoryIndex
from reposyncd.store.process.supervisor import IndexProcess
from reposyncd.tree.read import classify

Nodes = Mapping[str, str | bytes | None]
"""Path to content; None deletes."""

LATER_NS = 10_000_000_000
"""How far the clock of a test is ahead, so that what was just written is old enough to be trusted."""


HANGS_S = 60.0
"""What takes longer is taken for a hang. Nothing is timed by it."""


def until(condition: Callable[[], object], what: str, hangs_s: float = HANGS_S) -> None:
    """Returns when the condition holds."""
    deadline = time.monotonic() + hangs_s
    while not condition():
        assert time.monotonic() < deadline, f"it never came to this: {what}"
        time.sleep(0.01)


def open_to_others(path: Path) -> None:
    """Pytest keeps its directories, of which there may be several, to the user who runs it."""
    for each in (path, *path.parents):
        if each.stat().st_mode & 0o077 == 0:
            each.chmod(0o755)


def write(root: Path, nodes: Nodes) -> None:
    """Makes, changes and deletes files below the root, and their directories as needed."""
    for name, content in nodes.items():
        path = root / name
        if content is None:
            with suppress(FileNotFoundError, NotADirectoryError):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def memory_index() -> MemoryIndex:
    return MemoryIndex(create(EmbedderSpec("hashing")).embed)


def index_process(
    state: Path, embedder: str = "hashing", *, lock_timeout_s: float = 30, deadline_s: float = 120, **options: Any
) -> IndexProcess:
    """An index process on the embedded store of a state directory."""
    address = EmbeddedAddress(str(state / "chroma"), lock_timeout_s)
    return IndexProcess(str(state), address, EmbedderSpec(embedder), deadline_s=deadline_s, **options)


def config_for(state: Path, **variables: str) -> Config:
    environ = {"HOME": "/nonexistent", "REPOSYNCD_EMBEDDING__MODEL": "hashing", **variables}
    return load(environ, state_dir=str(state))


def later_ns() -> int:
    return time.time_ns() + LATER_NS


@dataclass
class Lab:
    """A tree, and an index of it that survives the workspaces that come and go."""

    root: Path
    state: Path
    index: RunningIndex = field(default_factory=memory_index)
    store: StoreAdmin | None = None
    """None: the embedded one, as outside of tests"""
    chunker: Chunker | None = field(default_factory=lambda: InlineChunker(classify))
    """None: processes, as outside of tests"""
    observer: Observer = field(default_factory=Unobserved)
    variables: dict[str, str] = field(default_factory=dict)
    name: str = "lab"
    """of the repository; others may be in the same state directory"""

    def write(self, nodes: Nodes) -> None:
        write(self.root, nodes)

    def workspace(self, index: RunningIndex | None = None) -> Workspace:
        return Workspace(
            config_for(self.state, **self.variables),
            {"HOME": "/nonexistent"},
            index=index or self.index,
            store=self.store,
            chunker=self.chunker,
            observer=self.observer,
            now_ns=later_ns,
        )

    def sync(self, *, full: bool = False, index: RunningIndex | None = None) -> SyncResult:
        with self.workspace(index) as workspace:
            return operations.sync(workspace, str(self.root), self.name, full=full)

    def generations(self, workspace: Workspace) -> list[Generation]:
        """Of this repository, in an open workspace."""
        [repo] = [each for each in workspace.catalog.repos() if each.root == str(self.root)]
        return workspace.catalog.generations(repo)

    def records(self) -> dict[str, Record]:
        """The collection that serves."""
        with self.workspace() as workspace:
            [serving] = [each for each in self.generations(workspace) if each.state == "serving"]
            return {record.id: record for record in self.index.records(serving.collection)}

    def paths(self) -> set[str]:
        return {str(record.metadata["path"]) for record in self.records().values()}

    def text_of(self, path: str) -> str:
        """A file as its records give it back."""
        found = [record for record in self.records().values() if record.metadata["path"] == path]
        found.sort(key=lambda record: int(record.metadata["start_line"]))
        return "".join(record.text for record in found)

    def assert_equals_an_index_built_from_scratch(self) -> None:
        scratch = Lab(
            self.root, self.state.with_name(self.state.name + "-scratch"), variables=self.variables, name=self.name
        )
        shutil.rmtree(scratch.state, ignore_errors=True)
        scratch.sync()
        mine, theirs = self.records(), scratch.records()
        assert mine.keys() == theirs.keys()
        for id, record in mine.items():
            assert record._replace(vector=()) == theirs[id]._replace(vector=())
            np.testing.assert_allclose(record.vector, theirs[id].vector, atol=1e-6)
        with self.workspace() as workspace:
            [generation] = self.generations(workspace)
            rows = list(workspace.manifest(generation).all_chunks())
            assert {row.id for row in rows} == mine.keys()
            assert {row.id: row.metadata(self.name) for row in rows} == {i: r.metadata for i, r in mine.items()}
            assert generation.chunks == len(mine)
            assert not workspace.manifest(generation).intents()
