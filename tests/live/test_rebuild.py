"""A service that is told to use another model answers from the index of before until the new one is there."""

from __future__ import annotations

import math
import threading
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import pytest

from reposyncd.config.values import EmbeddingConfig
from reposyncd.daemon.service import Daemon
from reposyncd.embedding import EmbedderSpec, create, identity_of
from reposyncd.errors import RebuildingError
from reposyncd.model import Applied, Batch
from reposyncd.store.memory import MemoryIndex
from tests.live.service import HANGS_S, Live, live, result_of, until


class Gated(MemoryIndex):
    """Stores nothing while its gate is closed."""

    def __init__(self) -> None:
        super().__init__(create(EmbedderSpec("hashing")).embed)
        self.gate = threading.Event()
        self.gate.set()
        self.waits = threading.Event()

    def apply(self, collection: str, batch: Batch) -> Future[Applied]:
        self.waits.set()
        assert self.gate.wait(HANGS_S)
        return super().apply(collection, batch)


@pytest.fixture
def index() -> Gated:
    return Gated()


@pytest.fixture
def lab(tmp_path: Path, index: Gated) -> Live:
    lab = live(tmp_path)
    lab.index = index
    lab.write({"door.py": "def open_door(key):\n    return unlock(key)\n", "sea.py": "def sail(ship): ...\n"})
    return lab


def use_another_model(lab: Live, daemon: Daemon) -> None:
    result_of(daemon.reconfigure(replace(lab.config(), embedding=EmbeddingConfig(model="static"))))


def test_searches_go_on_through_the_switch_and_say_that_it_is_under_way(lab: Live, index: Gated) -> None:
    with lab.running() as daemon:
        before = lab.status()["collection"]
        index.gate.clear()
        use_another_model(lab, daemon)
        until(lambda: lab.status()["state"] == "syncing", "it is being rebuilt")
        assert lab.status()["collection"] == before
        found = result_of(daemon.search("unlock the door", None, 1))
        assert [hit["path"] for hit in found["hits"]] == ["door.py"]
        assert found["complete"] is True
        [notice] = found["notices"]
        assert notice["repo"] == "lab"
        assert "is being rebuilt with another version or model" in notice["text"]
        index.gate.set()

        def is_switched() -> bool:  # and no search on the way there fails
            return not result_of(daemon.search("unlock the door", None, 1))["notices"]

        until(is_switched, "it answers from the new index")
        until(lambda: lab.status()["state"] == "current", "it is rebuilt")
        assert lab.status()["collection"] != before


def test_a_search_that_waits_for_its_embedder_is_no_heartbeat_of_the_engine(lab: Live, index: Gated) -> None:
    with lab.running() as daemon:
        index.gate.clear()
        index.waits.clear()
        lab.write({"wind.py": "def blow(): ...\n"})
        until(index.waits.is_set, "the engine waits")
        daemon.engine._heartbeat.sleep_until(-math.inf)
        assert daemon.engine.workspace.processes.embed_query(identity_of(EmbedderSpec("static")), "unlock the door")
        assert not daemon.engine.is_responsive
        index.gate.set()


def test_without_the_model_of_before_it_is_busy_until_then(
    lab: Live, index: Gated, monkeypatch: pytest.MonkeyPatch
) -> None:
    with lab.running() as daemon:
        index.gate.clear()
        monkeypatch.setattr("reposyncd.app.processes.spec_with", lambda *_: None)  # it is of another version of it
        use_another_model(lab, daemon)
        until(lambda: lab.status()["state"] == "syncing", "it is being rebuilt")
        with pytest.raises(RebuildingError, match="lab: not searched: its index is being rebuilt"):
            result_of(daemon.search("unlock the door", None, 1))
        monkeypatch.undo()
        index.gate.set()
        until(lambda: lab.status()["state"] == "current", "it is rebuilt")
        assert result_of(daemon.search("unlock the door", None, 1))["hits"]
