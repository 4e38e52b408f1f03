from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from reposyncd.store.chroma.collections import ChromaCollections
from reposyncd.store.chroma.stamp import PERSISTED
from tests.unit.store.stores import LOGGED, SIZES, fill


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("made") / "store"
    store = ChromaCollections(str(path))
    for size in SIZES:
        fill(store, size)
    store.persist([])
    assert len(list(path.glob(f"*/{PERSISTED}"))) == sum(size > 1 for size in SIZES)
    store = ChromaCollections(str(path))
    fill(store, LOGGED)
    store._client.close()
    return path


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "store"))
