"""A small service that works, and an API in front of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from reposyncd.daemon.http.api import Api
from reposyncd.daemon.ports import Service
from tests.served import Shelf


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "run" / "reposyncd.sock")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a.txt").write_text("one\ntwo\n")
    return tmp_path / "tree"


@pytest.fixture
def api(shelf: Shelf, path: str, tmp_path: Path) -> Iterator[Api]:
    service: Service = shelf
    with Api(service, path, state_dir=str(tmp_path)) as api:
        yield api
