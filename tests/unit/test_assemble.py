from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from reposyncd.assemble import Workspace
from reposyncd.errors import TransientStoreError
from reposyncd.store.process import IndexProcess
from tests.support import config_for

TOGETHER_S = 0.5
"""How long the thread that makes an index waits for another that does the same, and must not come."""


def test_threads_that_ask_for_the_index_at_the_same_time_get_the_same_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, making = Workspace._process, threading.Barrier(2)

    def slowly(self: Workspace, *arguments: Any) -> IndexProcess:
        with suppress(threading.BrokenBarrierError):
            making.wait(TOGETHER_S)
        return make(self, *arguments)

    monkeypatch.setattr(Workspace, "_process", slowly)
    with Workspace(config_for(tmp_path)) as workspace, ThreadPoolExecutor(2) as threads:
        one, other = threads.map(lambda _: workspace.index, range(2))
    assert one is other


def test_who_asks_for_the_index_after_the_end_gets_none_that_nobody_would_close(tmp_path: Path) -> None:
    workspace = Workspace(config_for(tmp_path))
    workspace.close()
    with pytest.raises(TransientStoreError, match="closed"):
        _ = workspace.index
