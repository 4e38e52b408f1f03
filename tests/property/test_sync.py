"""Whatever is done to a tree, and wherever a sync dies, the next sync makes the index equal one from scratch."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from reposyncd.app import operations
from reposyncd.errors import InterruptedSyncError
from reposyncd.store.manifest.database import Database
from reposyncd.store.memory import MemoryIndex
from tests.edits import Edits
from tests.support import Lab


class Crash(BaseException):
    """The process dies here, as far as the stores can tell."""


@contextmanager
def crash_at(step: int) -> Iterator[None]:
    """Dies at the given step of the protocol: before or after a transaction, or at a call of the index."""
    left = step
    transaction = Database.transaction

    def count() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Crash

    @contextmanager
    def counted(self: Database) -> Iterator[None]:
        count()
        with transaction(self):
            yield
            count()  # inside: rolled back
        count()

    Database.transaction = counted  # type: ignore[method-assign]
    try:
        yield
    except Crash:
        pass
    finally:
        Database.transaction = transaction  # type: ignore[method-assign]


class DyingIndex:
    """An index whose process dies with the caller's: calls count as steps, before and after they took effect."""

    def __init__(self, index: Any, step: int) -> None:
        self._index = index
        self._left = step

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise Crash

    def __getattr__(self, name: str) -> Any:
        if name == "observed":
            return lambda on_wait: self
        operation = getattr(self._index, name)
        if name in ("start", "close", "session"):
            return operation

        def counted(*arguments: Any) -> Any:
            self._count()
            result = operation(*arguments)
            self._count()
            return result

        return counted


class Machine(Edits):
    def __init__(self) -> None:
        super().__init__()
        self.place = Path(tempfile.mkdtemp())
        (self.place / "tree").mkdir()
        # Never empty: an empty root is taken for an unmounted one when the manifest, which knew it, is lost.
        (self.place / "tree" / "always.txt").write_text("this stays\n")
        self.lab = Lab(self.place / "tree", self.place / "state")
        self.synced = False
        self.is_whole = False
        """whether nothing was cut off since the last sync, so that the next one has to embed only what is new"""
        self.small = {
            name: Lab(self.place / name, self.lab.state, self.lab.index, name=name) for name in ("none", "one", "two")
        }
        """other repositories in the same state directory"""
        for chunks, lab in enumerate(self.small.values()):
            lab.root.mkdir()
            # As above; without a chunk.
            lab.write({"always.bin": b"\0"} | {f"{number}.txt": f"small {number}\n" for number in range(chunks)})

    def teardown(self) -> None:
        shutil.rmtree(self.place)

    def change(self) -> None:
        self.synced = False

    @rule(full=st.booleans())
    def sync(self, full: bool) -> None:
        before = self._texts(self.lab)
        embedded = self.lab.sync(full=full).chunks.embedded
        if self.is_whole:
            assert embedded == len(self._texts(self.lab) - before)
        self.synced = self.is_whole = True

    def _texts(self, lab: Lab) -> set[str]:
        """Of all the records that any generation of the repository has."""
        assert isinstance(lab.index, MemoryIndex)
        with lab.workspace() as workspace, suppress(ValueError):
            collections = [each.collection for each in lab.generations(workspace)]
            return {record.text for name in collections for record in lab.index.stored.get(name, {}).values()}
        return set()

    @rule(name=st.sampled_from(["none", "one", "two"]), texts=st.lists(st.sampled_from(["one\n", "2\n"]), max_size=3))
    def sync_another_one(self, name: str, texts: list[str]) -> None:
        """A small repository has these chunks."""
        lab = self.small[name]
        for path in lab.root.glob("*.txt"):
            path.unlink()
        lab.write({f"{number}.txt": text for number, text in enumerate(texts)})
        before = self._texts(lab)
        embedded = lab.sync().chunks.embedded
        if self.is_whole:
            assert embedded == len(self._texts(lab) - before)
        lab.assert_equals_an_index_built_from_scratch()

    @rule(files=st.integers(0, 6), full=st.booleans())
    def sync_and_stop(self, files: int, full: bool) -> None:
        self.is_whole = False
        asked = iter(range(files))
        with self.lab.workspace() as workspace, suppress(InterruptedSyncError):
            operations.sync(
                workspace, str(self.lab.root), "lab", full=full, should_stop=lambda: next(asked, None) is None
            )

    @rule(step=st.integers(0, 40), full=st.booleans())
    def sync_and_die_in_the_manifest(self, step: int, full: bool) -> None:
        self.is_whole = False
        with crash_at(step):
            self.lab.sync(full=full)

    @rule(step=st.integers(0, 16), full=st.booleans())
    def sync_and_die_in_the_index(self, step: int, full: bool) -> None:
        self.is_whole = False
        with crash_at(1 << 30):
            self.lab.sync(full=full, index=DyingIndex(self.lab.index, step))

    @rule()
    def lose_the_manifest(self) -> None:
        self.is_whole = False
        for path in self.lab.state.glob("manifest.db*"):
            path.unlink()

    @rule(how=st.sampled_from(["lose", "add", "text", "line", "vector"]), which=st.integers(0, 100))
    def tamper_and_repair(self, how: str, which: int) -> None:
        self.lab.sync()
        assert isinstance(self.lab.index, MemoryIndex)
        for records in self.lab.index.stored.values():
            if not records:
                continue
            id = sorted(records)[which % len(records)]
            record = records[id]
            if how == "lose":
                del records[id]
            elif how == "add":
                records["f" * 32] = record
            elif how == "text":
                records[id] = record._replace(text=record.text + "more")
            elif how == "line":
                records[id] = record._replace(metadata={**record.metadata, "end_line": 0})
            else:
                records[id] = record._replace(vector=tuple(-x for x in record.vector))
        with self.lab.workspace() as workspace:
            found = operations.verify(workspace, repair=True)
            assert all(each.repaired for each in found if each.counts)
        self.synced = True

    @precondition(lambda self: self.synced)
    @invariant()
    def the_index_is_true(self) -> None:
        self.lab.assert_equals_an_index_built_from_scratch()
        self.synced = False


Machine.TestCase.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
TestAnySequence = Machine.TestCase
