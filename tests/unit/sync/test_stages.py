"""What an observer learns about the stages of a sync."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

from reposyncd.app import operations
from reposyncd.errors import InterruptedSyncError, RootMissingError
from reposyncd.model import Transition
from reposyncd.ports import Stage
from reposyncd.sync import pipeline
from tests.support import Lab, Nodes
from tests.unit.sync.test_pipeline import FussyIndex

TREE: Nodes = {
    "a.py": "def one():\n    return 1\n",
    "b/c.py": "def two():\n    return 2\n",
    "b/d/e.md": "# title\ntext\n",
    "b/picture.bin": b"\x00\x01",
}


class Recorder:
    """A `ports.Observer` that remembers every report of a stage."""

    def __init__(self) -> None:
        self.reports: list[tuple[str, Stage, float, int]] = []

    def stage(self, repo: str, stage: Stage, duration_s: float, count: int) -> None:
        self.reports.append((repo, stage, duration_s, count))

    def transition(self, transition: Transition) -> None:
        raise AssertionError("a sync reports no transitions")

    def take(self) -> dict[Stage, int]:
        """The sum of the counts of each stage since the last call."""
        found: dict[Stage, int] = defaultdict(int)
        for _, stage, _, count in self.reports:
            found[stage] += count
        self.reports = []
        return dict(found)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def lab(tmp_path: Path, recorder: Recorder) -> Lab:
    (tmp_path / "tree").mkdir()
    lab = Lab(tmp_path / "tree", tmp_path / "state", observer=recorder)
    lab.write(TREE)
    return lab


def test_a_first_sync_reports_every_stage_with_its_duration_and_count(lab: Lab, recorder: Recorder) -> None:
    result = lab.sync()
    assert {repo for repo, _, _, _ in recorder.reports} == {"lab"}
    assert all(duration_s > 0 for _, _, duration_s, _ in recorder.reports)
    assert result.chunks.embedded > 0
    assert recorder.take() == {
        Stage.SCAN: 3,
        Stage.READ: 4,
        Stage.CHUNK: result.chunks.added,
        Stage.EMBED: result.chunks.embedded,
        Stage.STORE: result.chunks.added,
        Stage.COMMIT: result.chunks.added,
    }


def test_equal_texts_are_embedded_once_and_stored_each(lab: Lab, recorder: Recorder) -> None:
    lab.write({"copy.py": TREE["a.py"]})
    result = lab.sync()
    counts = recorder.take()
    assert counts[Stage.EMBED] == result.chunks.embedded == result.chunks.added - 1
    assert counts[Stage.STORE] == result.chunks.added


def test_a_sync_with_nothing_to_do_reports_the_scan_alone(lab: Lab, recorder: Recorder) -> None:
    lab.sync()
    recorder.take()
    assert lab.sync().is_empty
    assert recorder.take() == {Stage.SCAN: 3}
    with lab.workspace() as workspace:  # as the service syncs: it holds the lock already
        [repo] = workspace.catalog.repos()
        runner = workspace.runner(
            lambda: repo,
            lock=workspace.state_lock,
            patience_s=0,
            on_progress=lambda progress: None,
            should_stop=lambda: False,
        )
        assert runner.sync(full=False).is_empty
    assert recorder.take() == {Stage.SCAN: 3}


def test_chunks_that_moved_or_left_are_committed_and_only_new_texts_are_embedded(lab: Lab, recorder: Recorder) -> None:
    lab.write({"a.py": "".join(f"def f{n}():\n    return {n}\n\n\n" * 20 for n in range(9))})
    lab.sync()
    recorder.take()
    lab.write({"a.py": "# new\n" + (lab.root / "a.py").read_text(), "b/c.py": None})
    chunks = lab.sync().chunks
    assert chunks.relabelled > 0
    assert chunks.deleted > 0
    counts = recorder.take()
    assert counts.pop(Stage.CHUNK) >= chunks.added + chunks.relabelled
    assert counts == {
        Stage.SCAN: 3 + 3,  # the first one, without the lock, found that there is something to do
        Stage.READ: 1,
        Stage.EMBED: chunks.embedded,
        Stage.STORE: chunks.added + chunks.relabelled,
        Stage.COMMIT: chunks.added + chunks.relabelled + chunks.deleted,
    }


def test_a_renamed_file_is_stored_and_not_embedded(lab: Lab, recorder: Recorder) -> None:
    lab.sync()
    recorder.take()
    (lab.root / "a.py").rename(lab.root / "z.py")
    assert lab.sync().chunks.added == 1
    counts = recorder.take()
    assert Stage.EMBED not in counts
    assert counts[Stage.STORE] == 1


def test_the_files_of_a_batch_are_reported_together(
    lab: Lab, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "BATCH_CHUNKS", 50)
    lab.write({f"many/{n}.txt": f"{n}\n" for n in range(200)})
    lab.sync()
    commits = [count for _, stage, _, count in recorder.reports if stage is Stage.COMMIT]
    reads = [count for _, stage, _, count in recorder.reports if stage is Stage.READ]
    assert len(commits) == 5
    assert len(reads) <= len(commits) + 1
    assert sum(reads) == 204


def test_a_sync_that_is_stopped_reports_what_it_has_done(
    lab: Lab, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "BATCH_CHUNKS", 10)
    lab.write({f"many/{n}.txt": f"{n}\n" for n in range(100)})

    def should_stop() -> bool:
        return any(stage is Stage.COMMIT for _, stage, _, _ in recorder.reports)

    with lab.workspace() as workspace, pytest.raises(InterruptedSyncError):
        operations.sync(workspace, str(lab.root), "lab", should_stop=should_stop)
    counts = recorder.take()
    assert 0 < counts[Stage.COMMIT] < 100
    assert counts[Stage.COMMIT] == counts[Stage.STORE] == len(lab.records())


def test_a_scan_that_fails_is_not_reported(lab: Lab, recorder: Recorder) -> None:
    lab.sync()
    recorder.take()
    lab.root.rename(lab.root.with_name("elsewhere"))
    with lab.workspace() as workspace:
        [repo] = workspace.catalog.repos()
        runner = workspace.runner(
            lambda: repo,
            lock=workspace.state_lock,
            patience_s=0,
            on_progress=lambda progress: None,
            should_stop=lambda: False,
        )
        with pytest.raises(RootMissingError):
            runner.sync(full=False)
    assert recorder.take() == {}


def test_a_batch_that_is_refused_is_counted_when_its_halves_are_stored(lab: Lab, recorder: Recorder) -> None:
    lab.index = FussyIndex("poison")
    lab.write({"poison.txt": "poison\n"})
    result = lab.sync()
    counts = recorder.take()
    assert [each.path for each in result.errors] == ["poison.txt"]
    assert counts[Stage.STORE] == counts[Stage.EMBED] == result.chunks.added == len(lab.records())
