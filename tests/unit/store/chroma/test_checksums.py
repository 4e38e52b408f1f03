"""Checksums of index files: damage is found, and what Chroma writes of itself is none."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from reposyncd.errors import CorruptStoreError
from reposyncd.store.chroma import checksums
from reposyncd.store.chroma.database import persisted_segments
from reposyncd.store.chroma.stamp import PERSISTED
from tests.unit.store.stores import read


def segments(store: Path) -> dict[str, bool]:
    """The directories of the vector indexes, and whether they are persisted."""
    return {path.name: (path / PERSISTED).exists() for path in store.iterdir() if path.is_dir()}


def test_persisted_is_what_has_a_pickle(store: Path) -> None:
    assert persisted_segments(str(store)) == {name for name, persisted in segments(store).items() if persisted}


def test_an_index_that_was_never_persisted_has_no_checksum_and_may_change(store: Path) -> None:
    checksums.write(str(store), segments(store))
    before = {path: path.stat().st_mtime_ns for path in store.glob("*/*.bin")}
    read(store)
    assert any(path.stat().st_mtime_ns != before[path] for path in before)
    checksums.check(str(store))


def test_checksums_of_an_index_that_was_never_persisted_condemn_nothing(store: Path) -> None:
    """A version before this one recorded them."""
    checksums.write(str(store), segments(store))
    path = store / checksums.CHECKSUMS
    recorded = json.loads(path.read_text())
    unpersisted = [name for name, persisted in segments(store).items() if not persisted]
    assert unpersisted
    path.write_text(json.dumps(recorded | dict.fromkeys(unpersisted, "0" * 32)))
    checksums.check(str(store))


@pytest.mark.parametrize("name", [PERSISTED, "data_level0.bin"])
@pytest.mark.parametrize("damage", [os.unlink, lambda path: os.truncate(path, 1)])
def test_a_persisted_index_that_is_not_what_was_written_is_damage(
    store: Path, name: str, damage: Callable[[Path], None]
) -> None:
    checksums.write(str(store), segments(store))
    damage(next(store.glob(f"*/{PERSISTED}")).with_name(name))
    with pytest.raises(CorruptStoreError, match="differ from what was written"):
        checksums.check(str(store))
