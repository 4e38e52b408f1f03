"""A disk that fills up: the sync says so and ends, and the next one, with room again, makes everything right."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from reposyncd.errors import StoreError, TransientStoreError
from reposyncd.store.process import IndexProcess
from tests.support import Lab

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")

TOO_SMALL, ENOUGH = "size=4M", "size=400M"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", TOO_SMALL, "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def index_on(disk: Path) -> IndexProcess:
    return IndexProcess(str(disk), str(disk / "chroma"), "hashing", lock_timeout_s=30, deadline_s=120)


def test_a_full_disk_is_an_error_that_says_so_and_the_next_sync_goes_on(tmp_path: Path, disk: Path) -> None:
    (tmp_path / "tree").mkdir()
    lab = Lab(tmp_path / "tree", disk / "state")
    lab.write({f"d{n % 10}/{n}.txt": f"number {n} of many files\n" * 50 for n in range(4000)})
    with pytest.raises(StoreError, match="full") as raised:
        lab.sync(index=index_on(disk))
    assert isinstance(raised.value, TransientStoreError)
    subprocess.run(["mount", "-o", f"remount,{ENOUGH}", str(disk)], check=True)
    lab.index = index_on(disk)
    try:
        result = lab.sync(index=index_on(disk))
        assert result.files.total == 4000
        lab.assert_equals_an_index_built_from_scratch()
    finally:
        lab.index.close()
