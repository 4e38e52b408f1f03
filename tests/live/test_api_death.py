"""A service whose API dies."""

from __future__ import annotations

import time
from pathlib import Path

from reposyncd.client import Client
from tests.live.service import live, until


def test_an_api_that_dies_is_seen_and_started_again(tmp_path: Path) -> None:
    lab = live(tmp_path)
    lab.write({"a.txt": "one\n"})
    client = Client(lab.config().socket)
    with lab.running() as daemon:

        def is_well() -> bool:
            return next(each for each in daemon.vitals if each.what == "the API").is_well()

        def die() -> None:
            raise SystemExit("enough")

        assert is_well()
        api = daemon._api
        assert api
        api._server._loop.call_soon_threadsafe(die)
        until(lambda: not is_well(), "the API is dead")
        until(lambda: daemon.mend(time.monotonic()) is None and is_well(), "there is another")
        problems = client.request("GET", "/v1/status")["daemon"]["problems"]
        assert any(each.startswith("the API died on ") for each in problems)
        lab.write({"b.txt": "two\n"})
        client.request("POST", "/v1/flush")
        lab.assert_current()
