"""A service whose index process somebody kills again and again: it waits, says why, and loses nothing."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from reposyncd.app.client import Client
from tests.crash.faults import StoreLab, children, many_files
from tests.live.test_process import daemon
from tests.support import until


class Killer(threading.Thread):
    """Kills every index process of a service, as soon as there is one."""

    def __init__(self, service: int) -> None:
        super().__init__(daemon=True)
        self._service = service
        self._stop_it = threading.Event()
        self.killed: set[int] = set()

    def run(self) -> None:
        while not self._stop_it.wait(0.01):
            for pid in children(self._service):
                with suppress(OSError):
                    arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                    if b"reposyncd.app.child" in arguments and b"store" in arguments and pid not in self.killed:
                        os.kill(pid, signal.SIGKILL)
                        self.killed.add(pid)

    def stop(self) -> None:
        self._stop_it.set()
        self.join()


@pytest.fixture
def lab(tmp_path: Path) -> StoreLab:
    lab = StoreLab(tmp_path / "tree", tmp_path / "state", variables={"REPOSYNCD_SOCKET": str(tmp_path / "s")})
    lab.state.mkdir(mode=0o700)
    lab.write(many_files(20))
    return lab


def test_while_its_index_process_is_killed_it_waits_and_says_so_and_then_goes_on(lab: StoreLab) -> None:
    with daemon(lab) as (client, process):
        client.request("POST", "/v1/sync", {"path": str(lab.root), "name": "lab"})
        until(lambda: status(client)["state"] == "current", "it is indexed")
        killer = Killer(process.pid)
        killer.start()
        try:
            lab.write({"later.py": "later = 1\n"})
            until(lambda: "died of SIGKILL" in status(client)["reason"], "it says what it waits for")
            assert status(client)["state"] == "degraded"
            until(lambda: "and is sound" in status(client)["reason"] or len(killer.killed) > 8, "it goes on trying")
        finally:
            killer.stop()
        until(lambda: status(client)["state"] == "current", "it goes on")
        assert status(client)["chunks"] == 41
    assert not (lab.state / "quarantine").exists()
    assert lab.mend().chunks.embedded == 0


def status(client: Client) -> dict[str, Any]:
    [repo] = client.request("GET", "/v1/status")["repos"]
    found: dict[str, Any] = repo
    return found
