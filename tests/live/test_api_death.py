"""A service whose API dies."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from reposyncd.app.client import Client
from reposyncd.daemon.service import REACH_S
from reposyncd.errors import ReposyncError
from tests.live.service import live, until


def test_an_api_that_dies_is_seen_and_started_again(tmp_path: Path) -> None:
    lab = live(tmp_path)
    lab.write({"a.txt": "one\n"})
    client = Client(lab.config().socket)
    with lab.running() as daemon:

        def is_responsive() -> bool:
            return next(each for each in daemon.health_checks if each.what == "the API").is_responsive()

        def die() -> None:
            raise SystemExit("enough")

        assert is_responsive()
        api = daemon._api
        assert api
        api._server._loop.call_soon_threadsafe(die)
        until(lambda: not api.ping(1.0), "the API is dead")
        assert is_responsive()  # it will be started again; the watchdog is no help
        until(lambda: daemon.restart_dead(time.monotonic()) is None and is_responsive(), "there is another")
        problems = client.request("GET", "/v1/status")["daemon"]["problems"]
        assert any(each.startswith("the API died on ") for each in problems)
        lab.write({"b.txt": "two\n"})
        client.request("POST", "/v1/flush")
        lab.assert_current()


@pytest.mark.parametrize("lost", ["file", "directory", "replaced"])
def test_an_api_whose_socket_somebody_deleted_listens_anew(tmp_path: Path, lost: str) -> None:
    lab = live(tmp_path)
    lab.write({"a.txt": "one\n"})
    socket = Path(lab.config().socket)
    client = Client(str(socket))
    with lab.running() as daemon:
        daemon.check_reach(time.monotonic(), at_once=True)
        assert daemon.restart_dead(time.monotonic()) is None and not daemon.status()["daemon"]["problems"]
        if lost == "directory":
            shutil.rmtree(socket.parent)
        else:
            socket.unlink()
        if lost == "replaced":
            socket.touch()
            with pytest.raises(ReposyncError):
                client.request("GET", "/v1/status")
            socket.unlink()
        daemon.check_reach(time.monotonic() + REACH_S)
        until(lambda: daemon.restart_dead(time.monotonic()) is None and socket.exists(), "it listens again")
        [problem] = client.request("GET", "/v1/status")["daemon"]["problems"]
        assert "was deleted or replaced" in problem
        assert socket.stat().st_mode & 0o777 == 0o600 and socket.parent.stat().st_mode & 0o777 == 0o700
