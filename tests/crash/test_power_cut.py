"""A power cut under the state directory, at any moment: what was not synced is gone, and the next sync goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash import faults
from tests.crash.faults import SMALL_BATCHES, Ext4, StoreLab, dying_sync, functions, many_files

pytestmark = [
    faults.root_only,
    pytest.mark.skipif(not Path("/dev/loop-control").exists(), reason="this machine lets nobody mount an image"),
]

CUTS = faults.number_from("REPOSYNCD_TEST_CUTS", 5)
STEPS = 25
"""Of the commit protocol: about as many as the syncs below take."""

LATER_S = 0.2
"""How long after a step the power may fail: in the middle of what the next one does."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Ext4]:
    disk = Ext4(tmp_path / "disk.img", tmp_path / "disk", "400M")
    yield disk
    disk.close()


def test_a_first_index_goes_on_after_each_power_cut(tmp_path: Path, disk: Ext4) -> None:
    lab, chance = StoreLab(tmp_path / "tree", disk.place / "state"), faults.seeded()
    lab.write(many_files(250))
    cuts = sent = 0
    while cuts < CUTS:
        committed = lab.committed()
        report = dying_sync(
            lab,
            after=chance.randint(1, STEPS),
            delay_s=chance.uniform(0, LATER_S),
            cut=disk.place,
            constants=SMALL_BATCHES,
        )
        assert report.sent.isdisjoint(committed)
        cuts += report.died
        sent += len(report.sent)
        disk.power_up()
        lab.write({f"d0/{cuts}.py": functions(f"edit{cuts}")})
    committed = lab.committed()
    result = lab.mend()
    assert result.chunks.embedded <= len(lab.committed() - committed)
    lab.assert_equals_an_index_built_from_scratch()
    print(f"{cuts} power cuts: {sent + result.chunks.embedded} texts sent, {len(lab.committed())} needed")


def test_an_incremental_sync_is_made_good_after_each_power_cut(tmp_path: Path, disk: Ext4) -> None:
    lab, chance = StoreLab(tmp_path / "tree", disk.place / "state"), faults.seeded()
    lab.write(many_files(60))
    lab.sync()
    for cut in range(CUTS):
        lab.write(
            {
                f"d{cut % 7}/{cut}.py": None,
                f"renamed/{cut}.py": functions(f"f{cut}", f"g{cut}"),
                f"d{(cut + 20) % 7}/{cut + 20}.py": functions(f"new{cut}", f"g{cut + 20}"),
                f"d{(cut + 40) % 7}/{cut + 40}.py": "# moves the rest down\n" * 50 + functions(f"f{cut + 40}"),
            }
        )
        report = dying_sync(lab, after=chance.randint(1, 12), delay_s=chance.choice([0, 0.01, 0.05]), cut=disk.place)
        disk.power_up()
        committed = lab.committed()
        result = lab.mend()
        assert result.chunks.embedded <= len(lab.committed() - committed), report.steps
