"""The API as a whole: its start, its death and its end."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from reposyncd.app.client import running
from reposyncd.daemon.http.api import Api
from tests.live.service import HANGS_S
from tests.served import Shelf
from tests.unit.daemon.http.asking import LONG_S, ask


def test_the_death_of_the_thread_that_serves_is_told_and_another_takes_the_place(
    shelf: Shelf, path: str, tmp_path: Path
) -> None:
    deaths: list[BaseException] = []
    died = threading.Event()

    def on_death(error: BaseException) -> None:
        deaths.append(error)
        died.set()

    def die() -> None:
        raise SystemExit("enough")

    with Api(shelf, path, state_dir=str(tmp_path), on_death=on_death) as api:
        assert api.ping(LONG_S)
        api._server._loop.call_soon_threadsafe(die)
        assert died.wait(LONG_S)
        assert [str(each) for each in deaths] == ["enough"]
        assert not api.ping(LONG_S)
        with Api(shelf, path, state_dir=str(tmp_path)):
            assert ask(path, "GET", "/v1/status")[0] == 200


def test_a_close_ends_the_thread_that_accepts_and_removes_the_file_that_is_its_own(api: Api, path: str) -> None:
    thread = api._server.thread
    assert thread.is_alive()
    api.close()
    api.close()
    assert not thread.is_alive()
    assert not os.path.exists(path)
    assert not running(path)


def test_nothing_of_an_api_that_was_closed_is_left(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with Api(Shelf(), path, state_dir=str(tmp_path)) as api:
            assert running(path) and api.ping(HANGS_S)
        assert not api.ping(0.1)
    assert not running(path)
    assert len(os.listdir("/proc/self/fd")) == before
