"""A store in memory is a store like any other: nothing outside its module needs a directory."""

from __future__ import annotations

from pathlib import Path

from reposyncd.store.memory import MemoryAdmin
from tests.support import Lab, memory_index


def lab(tmp_path: Path) -> Lab:
    index = memory_index()
    made = Lab(tmp_path / "tree", tmp_path / "state", index, MemoryAdmin(index.store))
    made.write({"a.py": "print('a')\n", "b/c.py": "print('c')\n"})
    return made


def test_a_sync_into_memory_leaves_no_store_on_the_disk(tmp_path: Path) -> None:
    made = lab(tmp_path)
    made.sync()
    made.write({"a.py": None, "d.py": "print('d')\n"})
    assert made.sync().chunks.embedded == 1
    assert made.paths() == {"b/c.py", "d.py"}
    assert {path.name for path in made.state.iterdir()} == {"manifest.db", "reposyncd.lock"}


def test_it_is_recognised_so_that_a_second_sync_has_nothing_to_do(tmp_path: Path) -> None:
    made = lab(tmp_path)
    made.sync()
    assert made.store
    stamp = made.store.stamp()
    assert made.sync().is_empty
    assert made.store.stamp() == stamp  # nobody has even opened a collection


def test_records_that_somebody_else_has_changed_are_made_true_again(tmp_path: Path) -> None:
    made = lab(tmp_path)
    made.sync()
    made.index.delete(next(iter(made.index.collections())), list(made.records())[:1]).result()
    assert made.sync().chunks.added == 1
    made.assert_equals_an_index_built_from_scratch()
