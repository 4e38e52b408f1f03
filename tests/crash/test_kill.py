"""kill -9 of a sync, and of its index process, at every step and at any moment."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from reposyncd.model import Progress
from reposyncd.store.process.supervisor import IndexProcess
from tests.crash import faults
from tests.crash.faults import SMALL_BATCHES, StoreLab, dying_sync, functions, many_files

KILLS = faults.number_from("REPOSYNCD_TEST_KILLS", 15)
TINY_BATCHES = {"reposyncd.sync.pipeline.BATCH_CHUNKS": 6}
LANES = 2
"""Victims at the same time: most of a victim's life is one process that imports Chroma."""


BEFORE = {
    "stays.py": functions("stays"),
    "edited.py": functions("one", "two", "three", "four"),
    "pushed_down.py": functions("alpha", "beta", "gamma"),
    "old_name.py": functions("renamed_a", "renamed_b"),
    "gone/for_good.py": functions("gone_a", "gone_b"),
    "gone/twin.py": functions("gone_a"),
}
AFTER = {
    "edited.py": functions("one", "two", "changed", "four"),
    "pushed_down.py": "# a line that moves the others down\n" * 60 + BEFORE["pushed_down.py"],
    "old_name.py": None,
    "new_name.py": BEFORE["old_name.py"],
    "gone": None,
    "added/one.py": functions("added_a", "added_b"),
    "added/two.py": functions("added_c"),
}


def test_a_sync_killed_after_any_step_is_made_good_by_the_next_one(tmp_path: Path) -> None:
    lab = StoreLab(tmp_path / "tree", tmp_path / "state")
    lab.write(BEFORE)
    before = lab.sync()
    lab.write(AFTER)

    def kill_after(step: int) -> faults.Report:
        """The tree is everybody's: a sync never writes to it. Each has a copy of the state."""
        own = tmp_path / str(step)
        own.mkdir()
        mine = StoreLab(lab.root, own / "state")
        faults.copy_state(lab.state, mine.state)
        report = dying_sync(mine, after=step, constants=TINY_BATCHES)
        committed = mine.committed()
        result = mine.mend()
        assert result.chunks.embedded <= len(mine.committed() - committed), report.steps
        return report

    survived = a_sync_that_survives(lab, tmp_path)
    kinds = {step.split()[0] for step in survived.steps}
    assert {"transaction", "open", "apply", "delete"} <= kinds
    assert survived.result["chunks"]["relabelled"] > 0
    assert survived.result["chunks"]["deleted"] > 0
    assert 0 < survived.result["chunks"]["embedded"] < before.chunks.total
    with ThreadPoolExecutor(LANES) as lanes:
        reports = list(lanes.map(kill_after, range(1, len(survived.steps) + 1)))
    assert all(report.died for report in reports)
    print(*survived.steps, sep="\n")


def a_sync_that_survives(lab: StoreLab, tmp_path: Path) -> faults.Report:
    """On a copy, to count the steps."""
    counted = StoreLab(lab.root, tmp_path / "counted")
    faults.copy_state(lab.state, counted.state)
    return dying_sync(counted, constants=TINY_BATCHES)


def test_a_first_index_killed_at_random_moments_loses_nothing_that_was_committed(tmp_path: Path) -> None:
    lab, chance = StoreLab(tmp_path / "tree", tmp_path / "state"), faults.seeded()
    lab.write(many_files(400))
    sent, kills, edits = 0, 0, 0
    while kills < KILLS:
        committed = lab.committed()
        # Usually while it stores, sometimes while it starts.
        report = dying_sync(
            lab, after=chance.choice([0, 2, 4, 6, 10]), delay_s=chance.uniform(0, 0.7), constants=SMALL_BATCHES
        )
        assert report.sent.isdisjoint(committed)
        sent += len(report.sent)
        kills += report.died
        # Behind the back of an index process that may not have seen yet that its parent is gone.
        edits += 1
        lab.write({f"d{edits % 7}/{edits}.py": functions(f"edit{edits}", f"g{edits}")})
    committed = lab.committed()
    result = lab.mend()
    assert result.chunks.embedded <= len(lab.committed() - committed)
    print(f"{kills} kills: {sent + result.chunks.embedded} texts sent to be embedded, {len(lab.committed())} needed")


@pytest.mark.parametrize("whom", ["index process", "embedder", "both"])
def test_a_sync_survives_the_death_of_its_index_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whom: str
) -> None:
    faults.set_constants(monkeypatch, SMALL_BATCHES)
    lab = StoreLab(tmp_path / "tree", tmp_path / "state")
    lab.write(many_files(400))
    killed: set[int] = set()
    done = 0

    def kill_at_commits(index: IndexProcess, progress: Progress) -> None:
        """The batches behind the committed one are under way: embedded, stored, or on their way."""
        nonlocal done
        pid = index.pid
        if progress.chunks_done > done and pid is not None:
            done = progress.chunks_done
            victims = {"index process": [pid], "embedder": faults.children(pid), "both": [pid, *faults.children(pid)]}
            for each in set(victims[whom]) - killed:
                with suppress(ProcessLookupError):
                    os.kill(each, signal.SIGKILL)
                    killed.add(each)

    lab.sync_watched(kill_at_commits)
    assert len(killed) > (2 if whom == "both" else 1)
    assert lab.mend().chunks.embedded == 0
