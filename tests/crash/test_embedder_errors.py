"""What an embedder raises ends no process, and condemns no file but the one whose text it will never take."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from reposyncd.app import operations
from reposyncd.app.workspace import Workspace
from reposyncd.config.values import EmbeddingConfig
from reposyncd.embedding import EmbedderSpec
from reposyncd.errors import ConfigError, EmbedderUnavailableError, RefusedTextError
from reposyncd.model import Progress, SyncResult
from reposyncd.ports import RunningIndex
from reposyncd.store.chroma.address import EmbeddedAddress
from reposyncd.store.process.supervisor import IndexProcess
from tests.crash import faulty_embedder
from tests.crash.faults import NAME, StoreLab, children
from tests.support import config_for, later_ns

SECRET = "hunter2"


@dataclass
class FaultyLab(StoreLab):
    """A lab with the faulty embedder."""

    processes: set[int] = field(default_factory=set)
    """the index processes and embedders of all syncs"""
    trouble: set[str] = field(default_factory=set)
    """what the syncs told of"""

    def workspace(self, index: RunningIndex | None = None) -> Workspace:
        config = config_for(self.state, **self.variables)
        config = replace(config, embedding=EmbeddingConfig(model=faulty_embedder.KIND))
        return Workspace(config, {"HOME": "/nonexistent"}, index=index, now_ns=later_ns)

    def watched(self) -> SyncResult:
        """A sync whose processes and trouble are noted."""

        def note(index: IndexProcess, progress: Progress) -> None:
            self.trouble.add(progress.trouble)
            self.processes |= processes(index)

        return self.sync_watched(note)

    def assert_that_no_process_has_died(self) -> None:
        """Of one sync: the index process and the embedder."""
        assert len(self.processes) == 2

    def assert_that_the_store_was_never_doubted(self) -> None:
        assert not (self.state / "quarantine").exists()
        assert not (self.state / "doubt.json").exists()
        with self.workspace() as workspace:
            assert workspace.catalog.incidents() == []


def processes(index: IndexProcess) -> set[int]:
    pid = index.pid
    return {pid, *children(pid)} if pid else set()


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FaultyLab:
    faulty_embedder.use(monkeypatch)
    (tmp_path / "tree").mkdir()
    lab = FaultyLab(tmp_path / "tree", tmp_path / "state")
    lab.write({f"{n}.txt": f"file {n}\n" for n in range(8)})
    return lab


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("raise OSError 3 times", "the embedder cannot be used: OSError: the key"),
        ("raise ValueError 3 times", ""),
        ("raise ValueError everywhere 12 times", "the embedder fails with every text: ValueError"),
    ],
)
def test_trouble_that_passes_ends_no_process_and_condemns_no_file(lab: FaultyLab, fault: str, told: str) -> None:
    lab.write({"5.txt": f"{fault}\n"})
    result = lab.watched()
    assert not result.errors
    assert result.files.total == 8
    assert any(told in each for each in lab.trouble)
    lab.assert_that_no_process_has_died()
    lab.assert_that_the_store_was_never_doubted()
    lab.mend()


@pytest.mark.parametrize("error", ["RefusedTextError", "ValueError"])
def test_a_text_that_the_embedder_never_takes_quarantines_its_file_alone(lab: FaultyLab, error: str) -> None:
    lab.write({"5.txt": f"raise {error}\n"})
    result = lab.watched()
    assert [each.path for each in result.errors] == ["5.txt"]
    assert "quarantined until it changes" in result.errors[0].error
    assert lab.paths() == {f"{n}.txt" for n in range(8) if n != 5}
    lab.assert_that_no_process_has_died()
    lab.assert_that_the_store_was_never_doubted()
    lab.write({"5.txt": "harmless by now\n"})
    lab.mend()


def test_a_wrong_configuration_is_told_as_such_and_condemns_nothing(lab: FaultyLab) -> None:
    lab.write({"5.txt": "raise ConfigError\n"})
    with pytest.raises(ConfigError, match="the key"):
        lab.watched()
    lab.assert_that_no_process_has_died()
    lab.assert_that_the_store_was_never_doubted()
    with lab.workspace() as workspace:
        [generation] = lab.generations(workspace)
        assert workspace.manifest(generation).verdicts() == []
    lab.write({"5.txt": "it was changed\n"})
    lab.mend()


def test_a_query_that_cannot_be_embedded_ends_no_process(lab: FaultyLab) -> None:
    lab.sync()
    with lab.workspace() as workspace:
        assert operations.search(workspace, "file 3", NAME, 1).hits
        index = workspace.index
        assert isinstance(index, IndexProcess)
        before = processes(index)
        with pytest.raises(EmbedderUnavailableError, match="cannot be used"):
            operations.search(workspace, "raise OSError 1 times", NAME, 1)
        with pytest.raises(RefusedTextError, match="failed with this text 3 times, and with no other"):
            operations.search(workspace, "raise ValueError", NAME, 1)
        with pytest.raises(ConfigError):
            operations.search(workspace, "raise ConfigError", NAME, 1)
        assert operations.search(workspace, "raise OSError 1 times", NAME, 1).hits
        assert processes(index) == before


@pytest.fixture
def index(lab: FaultyLab) -> Iterator[IndexProcess]:
    lab.state.mkdir()
    spec = EmbedderSpec(faulty_embedder.KIND, secret=SECRET)
    index = IndexProcess(str(lab.state), EmbeddedAddress(str(lab.state / "chroma"), 30), spec, deadline_s=120)
    yield index
    index.close()


def test_a_secret_is_in_no_message_no_log_and_no_command_line(lab: FaultyLab, index: IndexProcess) -> None:
    for error in ("OSError", "ValueError", "ConfigError", "RefusedTextError"):
        with pytest.raises((EmbedderUnavailableError, ConfigError, RefusedTextError)) as raised:
            index.embed([f"raise {error}"])
        assert SECRET not in str(raised.value)
        assert "the key ***" in str(raised.value) or error == "ValueError"  # of which only the kind is told
    found = processes(index)
    assert len(found) == 2
    for pid in found:
        for name in ("cmdline", "environ"):
            assert SECRET.encode() not in Path(f"/proc/{pid}/{name}").read_bytes()
    index.close()
    for directory, _, names in os.walk(lab.state):
        for name in names:
            assert SECRET.encode() not in Path(directory, name).read_bytes()
    assert "the key *** is of no use" in (lab.state / "index-process.log").read_text()
