"""Whatever is done to a tree, and wherever a sync dies, the next sync makes the index equal one from scratch."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from reposyncd.store.database import Database
from reposyncd.store.memory import MemoryIndex
from tests.support import Lab

NAMES = st.sampled_from(["a.py", "b.md", "c.txt", "x/a.py", "x/y/b.txt", "x/y/z/c.rs", "w/a.py", "n\nl.txt"])
DIRECTORIES = st.sampled_from(["x", "x/y", "x/y/z", "w", "v"])
BLOCKS = st.sampled_from(
    [
        "def first():\n" + "    step('one')  # a step of the first\n" * 20 + "\n\n",
        "def second():\n" + "    step('two')  # a step of the second\n" * 30 + "\n\n",
        "# A heading\n\nA paragraph of words that says little.\n\n",
        "class Third:\n    value = 3\n\n    def method(self):\n        return self.value\n\n\n",
        "x\n" * 400,
        "\n",
    ]
)
TEXTS = st.lists(BLOCKS, max_size=6).map("".join)
CONTENTS = st.one_of(TEXTS, st.just(b"\x00binary"), st.just("latin \xe9t\xe9\n".encode("latin-1")))
IGNORES = st.sampled_from(["", "*.txt\n", "x/\n", "/a.py\n!b.md\n", "x/*\n!x/y/\n", "w\n*.rs\n"])


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
        operation = getattr(self._index, name)
        if name in ("start", "close", "life"):
            return operation

        def counted(*arguments: Any) -> Any:
            self._count()
            result = operation(*arguments)
            self._count()
            return result

        return counted


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.place = Path(tempfile.mkdtemp())
        (self.place / "tree").mkdir()
        self.lab = Lab(self.place / "tree", self.place / "state")
        self.synced = False

    def teardown(self) -> None:
        shutil.rmtree(self.place)

    def change(self) -> None:
        self.synced = False

    @rule(name=NAMES, content=CONTENTS)
    def write(self, name: str, content: str | bytes) -> None:
        path = self.lab.root / name
        for parent in path.relative_to(self.lab.root).parents:
            if (self.lab.root / parent).is_file():
                (self.lab.root / parent).unlink()
        if path.is_dir():
            shutil.rmtree(path)
        self.lab.write({name: content})
        self.change()

    @rule(name=NAMES, block=TEXTS)
    def append(self, name: str, block: str) -> None:
        path = self.lab.root / name
        if path.is_file():
            with path.open("a") as file:
                file.write(block)
            self.change()

    @rule(name=st.one_of(NAMES, DIRECTORIES))
    def delete(self, name: str) -> None:
        self.lab.write({name: None})
        self.change()

    @rule(old=st.one_of(NAMES, DIRECTORIES), new=st.one_of(NAMES, DIRECTORIES))
    def rename(self, old: str, new: str) -> None:
        source, target = self.lab.root / old, self.lab.root / new
        if source.exists() and not target.exists() and target.parent.is_dir() and source not in target.parents:
            source.rename(target)
            self.change()

    @rule(where=st.sampled_from(["", "x/"]), rules=IGNORES)
    def ignore(self, where: str, rules: str) -> None:
        if (self.lab.root / where).is_dir():
            self.lab.write({f"{where}.gitignore": rules})
            self.change()

    @rule(full=st.booleans())
    def sync(self, full: bool) -> None:
        self.lab.sync(full=full)
        self.synced = True

    @rule(step=st.integers(0, 40), full=st.booleans())
    def sync_and_die_in_the_manifest(self, step: int, full: bool) -> None:
        with crash_at(step):
            self.lab.sync(full=full)

    @rule(step=st.integers(0, 16), full=st.booleans())
    def sync_and_die_in_the_index(self, step: int, full: bool) -> None:
        with crash_at(1 << 30):
            self.lab.sync(full=full, index=DyingIndex(self.lab.index, step))

    @rule()
    def lose_the_manifest(self) -> None:
        for path in self.lab.state.glob("manifest.db*"):
            path.unlink()

    @rule(how=st.sampled_from(["lose", "add", "text", "line", "vector"]), which=st.integers(0, 100))
    def tamper_and_repair(self, how: str, which: int) -> None:
        self.lab.sync()
        assert isinstance(self.lab.index, MemoryIndex)
        for records in self.lab.index._collections.values():
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
            found = workspace.verify(repair=True)
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
