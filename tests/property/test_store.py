"""Repositories of no, one, two, three and many chunks in one store, on a real Chroma, with checkpoints between: their
records are true after each sync, and nothing costs more than it has to.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from reposyncd.app import operations
from reposyncd.app.workspace import Workspace
from reposyncd.store.chroma import checkpoint
from reposyncd.store.chroma.admin import EmbeddedAdmin
from reposyncd.store.chroma.database import FEWEST_PERSISTED
from reposyncd.store.chroma.directory import StoreDirectory
from reposyncd.store.kinds import StoreSettings
from tests.foreign import Foreign
from tests.local_index import LocalIndex, LocalMaintenance
from tests.support import Lab, write

FEW_ROWS = 12
"""Rows of the log that are worth a checkpoint here."""

SMALL = {"none": 0, "one": 1, "two": 2, "three": 3}
"""Chunks that each repository has at first."""

LARGE_FILES = 30

SMALL_REPOS = st.sampled_from(sorted(SMALL))
REPOS = st.sampled_from([*sorted(SMALL), "large"])
TEXTS = st.sampled_from([f"text number {number}\n" for number in range(6)])


@cache
def foreign() -> Foreign:
    """One for all examples: it takes seconds to start."""
    return Foreign()


class StoreMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.place = Path(tempfile.mkdtemp()).resolve()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(checkpoint, "LOG_ROWS", FEW_ROWS)
        self.state = self.place / "state"
        self.state.mkdir(mode=0o700)
        self.index = LocalIndex(str(self.state / "chroma"))
        settings = StoreSettings(str(self.state), lock_timeout_s=5)
        store = EmbeddedAdmin(lambda: settings, LocalMaintenance)
        self.labs = {
            name: Lab(self.place / name, self.state, self.index, store, name=name) for name in [*SMALL, "large"]
        }
        self.texts: dict[str, set[str]] = {name: set() for name in self.labs}
        """that have a vector in the store"""
        self.suspect: set[str] = set(self.labs)
        """repositories whose records may be other ones than those on record, or that were never synced"""
        self.outstanding: dict[str, int] = {}
        """rows of each collection's log that are not in its index files"""
        for name, chunks in SMALL.items():
            write(self.place / name, {"ignored.bin": b"\0"} | {f"{n}.txt": f"{name} {n}\n" for n in range(chunks)})
        write(self.place / "large", {f"{n}.txt": f"large {n}\n" for n in range(LARGE_FILES)})
        StoreDirectory(str(self.state)).ensure()
        for name in self.labs:
            self.sync(name, full=False)

    def teardown(self) -> None:
        self.index.release()
        self.patch.undo()
        shutil.rmtree(self.place)

    def workspace(self) -> Workspace:
        return self.labs["large"].workspace()

    # What is done ---------------------------------------------------------------------------------------

    @rule(name=SMALL_REPOS, texts=st.lists(TEXTS, max_size=3))
    def rewrite(self, name: str, texts: list[str]) -> None:
        """A small repository has so many chunks from now on."""
        for path in self.labs[name].root.glob("*.txt"):
            path.unlink()
        self.labs[name].write({f"{number}.txt": text for number, text in enumerate(texts)})

    @rule(files=st.lists(st.integers(0, LARGE_FILES), min_size=1, max_size=4), text=TEXTS)
    def edit(self, files: list[int], text: str) -> None:
        self.labs["large"].write({f"{number}.txt": text * (number + 1) for number in files})

    @rule(name=REPOS, full=st.sampled_from([False, False, False, True]))
    def sync(self, name: str, full: bool) -> None:
        self.index.compared.clear()
        self.index.logged.clear()
        before = os.path.realpath(self.state / "chroma")
        with self.workspace() as workspace:
            result = operations.sync(workspace, str(self.labs[name].root), name, full=full)
            generations = {repo.name: workspace.catalog.generations(repo) for repo in workspace.catalog.repos()}
        [generation] = generations[name]
        assert not result.errors
        if not full and name not in self.suspect:
            assert not self.index.compared
        self.suspect.discard(name)
        self._there_was_a_checkpoint_if_it_was_due(before, sum(each.chunks for [each] in generations.values()))
        texts = {record.text for record in self.index.records(generation.collection)}
        assert result.chunks.embedded == len(texts - self.texts[name])
        self.texts[name] = texts
        self.labs[name].assert_equals_an_index_built_from_scratch()

    def _there_was_a_checkpoint_if_it_was_due(self, before: str, live: int) -> None:
        for collection, rows in self.index.logged.items():
            self.outstanding[collection] = self.outstanding.get(collection, 0) + rows
        replayed = sum(rows for rows in self.outstanding.values() if rows >= FEWEST_PERSISTED)
        is_due = replayed > max(FEW_ROWS, live // checkpoint.LOG_SHARE)
        assert (os.path.realpath(self.state / "chroma") != before) == is_due
        if is_due:
            self.outstanding = {name: rows for name, rows in self.outstanding.items() if rows < FEWEST_PERSISTED}

    @rule()
    def search(self) -> None:
        with self.workspace() as workspace:
            assert operations.search(workspace, "text number", None, 5).hits

    @rule()
    def read_by_another_program(self) -> None:
        foreign().read(str(self.state / "chroma"))

    @rule(which=st.integers(0, 4), how=st.sampled_from(["label", "delete", "add"]), reads=st.booleans())
    def write_by_another_program(self, which: int, how: str, reads: bool) -> None:
        """It is noticed, though the program may have the last word with a read."""
        written = foreign().write(str(self.state / "chroma"), which, how)
        if written is None:
            return
        name, collection, self.texts[written[0]] = written
        self.outstanding[collection] = self.outstanding.get(collection, 0) + 1
        self.suspect = set(self.labs)
        self.index.release()  # whose vectors are those from before
        if reads:
            self.read_by_another_program()
        self.sync(name, full=False)

    @rule()
    def close_and_open_again(self) -> None:
        self.index.release()

    @rule(name=REPOS)
    def verify(self, name: str) -> None:
        if name not in self.suspect and self.is_synced(name):
            with self.workspace() as workspace:
                [found] = operations.verify(workspace, name)
            assert not found.counts

    def is_synced(self, name: str) -> bool:
        found = {path.read_text() for path in self.labs[name].root.glob("*.txt")}
        return found == self.texts[name]

    @invariant()
    def nothing_was_condemned(self) -> None:
        assert not (self.state / "quarantine").exists()


StoreMachine.TestCase.settings = settings(
    max_examples=10,
    stateful_step_count=25,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),  # an example takes seconds: shrinking one would take an hour
    suppress_health_check=list(HealthCheck),
)
TestRepositoriesOfAllSizes = StoreMachine.TestCase
