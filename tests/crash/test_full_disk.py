"""A disk that fills up: the sync says so, waits, and goes on by itself when there is room; or the next one does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from reposyncd.errors import TransientStoreError
from reposyncd.model import Progress
from reposyncd.store.process.supervisor import IndexProcess
from tests.crash import faults
from tests.crash.faults import SMALL_BATCHES, StoreLab, many_files

pytestmark = faults.root_only

TINY, HALF, ENOUGH = "size=2M", "size=24M", "size=400M"
"""No room for anything; for about half of the index below; for all of it."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with faults.mounted(tmp_path / "disk", "-t", "tmpfs", "-o", ENOUGH, "tmpfs") as place:
        yield place


@pytest.fixture
def lab(tmp_path: Path, disk: Path, monkeypatch: pytest.MonkeyPatch) -> StoreLab:
    faults.set_constants(monkeypatch, SMALL_BATCHES)
    lab = StoreLab(tmp_path / "tree", disk / "state")
    lab.write(many_files(600))
    return lab


@pytest.mark.parametrize("size", [TINY, HALF])
def test_without_patience_it_is_an_error_and_the_next_sync_goes_on(lab: StoreLab, disk: Path, size: str) -> None:
    lab.variables["REPOSYNCD_STORE__PATIENCE"] = "0"
    faults.remount(disk, size)
    with pytest.raises(TransientStoreError, match="full"):
        lab.sync()
    faults.remount(disk, ENOUGH)
    committed = lab.committed()
    result = lab.mend()
    assert result.chunks.embedded <= len(lab.committed() - committed)
    assert result.files.total == 600


@pytest.mark.parametrize("size", [TINY, HALF])
def test_a_sync_waits_for_room_and_goes_on(lab: StoreLab, disk: Path, size: str) -> None:
    troubles: list[str] = []

    def make_room(index: IndexProcess, progress: Progress) -> None:
        if progress.trouble:
            troubles.append(progress.trouble)
            faults.remount(disk, ENOUGH)

    faults.remount(disk, size)
    result = lab.sync_watched(make_room)
    assert result.files.total == 600
    assert "full" in troubles[0]
    assert lab.mend().chunks.embedded == 0


def test_a_sync_outlives_somebody_who_fills_the_disk_under_its_hands(lab: StoreLab, disk: Path) -> None:
    filler = disk / "filler"
    troubles: list[str] = []

    def fill_then_make_room(index: IndexProcess, progress: Progress) -> None:
        if progress.trouble:
            troubles.append(progress.trouble)
            filler.unlink(missing_ok=True)
        elif progress.chunks_done and not troubles and not filler.exists():
            with suppress(OSError), filler.open("wb", buffering=0) as file:
                while file.write(bytes(1 << 20)):
                    pass

    result = lab.sync_watched(fill_then_make_room)
    assert troubles
    assert result.files.total == 600
    assert lab.mend().chunks.embedded == 0
