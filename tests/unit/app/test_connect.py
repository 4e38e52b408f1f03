"""Who does what is asked: the service, or this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reposyncd.app.connect import ServiceOrLocal, connect, service
from reposyncd.app.facade import App
from reposyncd.errors import BusyError, CorruptStoreError, DaemonLostError, DaemonNotRunningError, OverloadedError
from tests.apps import RecordingApp
from tests.support import config_for, write

NOT_RUNNING = DaemonNotRunningError("the service is not running")
LOST = DaemonLostError("the service ended before the work was done")

WORK: list[tuple[Any, ...]] = [
    ("add", "/lab", None),
    ("remove", "lab"),
    ("sync", "/lab", "lab", True),
    ("verify", None, True),
    ("search", "query", None, 5),
]
"""What this process can do too."""

OF_THE_SERVICE: list[tuple[Any, ...]] = [("pause", None), ("resume", "lab"), ("flush", None)]


def either(error: Exception | None) -> tuple[ServiceOrLocal, RecordingApp, RecordingApp]:
    there, here = RecordingApp("service", error), RecordingApp("here")
    return ServiceOrLocal(there, lambda: here), there, here


def call(app: App, asked: tuple[Any, ...]) -> Any:
    method: Callable[..., Any] = getattr(app, asked[0])
    return method(*asked[1:]).result()


@pytest.mark.parametrize("asked", WORK + OF_THE_SERVICE)
def test_a_service_that_runs_does_it(asked: tuple[Any, ...]) -> None:
    app, there, here = either(None)
    call(app, asked)
    assert (there.asked, here.asked) == ([asked], [])


@pytest.mark.parametrize("asked", WORK)
def test_without_a_service_this_process_does_it(asked: tuple[Any, ...]) -> None:
    app, there, here = either(NOT_RUNNING)
    call(app, asked)
    assert (there.asked, here.asked) == ([asked], [asked])


@pytest.mark.parametrize("asked", OF_THE_SERVICE)
def test_what_needs_the_service_is_not_tried_here(asked: tuple[Any, ...]) -> None:
    app, _, here = either(NOT_RUNNING)
    with pytest.raises(DaemonNotRunningError):
        call(app, asked)
    assert here.asked == []


@pytest.mark.parametrize("asked", WORK + OF_THE_SERVICE)
@pytest.mark.parametrize("error", [LOST, BusyError("locked"), OverloadedError("starting"), CorruptStoreError("torn")])
def test_what_the_service_may_have_begun_is_not_done_twice(asked: tuple[Any, ...], error: Exception) -> None:
    app, there, here = either(error)
    with pytest.raises(type(error)):
        call(app, asked)
    assert (there.asked, here.asked) == ([asked], [])


@pytest.mark.parametrize("error", [NOT_RUNNING, LOST, OverloadedError("starting")])
def test_what_is_on_record_is_read_from_the_disk_if_the_service_cannot_tell(error: Exception) -> None:
    app, _, here = either(error)
    assert app.status()["version"] == "here"
    assert app.runs("lab", 3) == {"runs": []}
    assert here.asked == [("status",), ("runs", "lab", 3)]


def test_the_status_says_why_a_service_that_runs_did_not_answer() -> None:
    assert either(LOST)[0].status()["daemon"]["state"] == str(LOST)
    assert either(NOT_RUNNING)[0].status()["daemon"]["state"] == "not running"


def test_nothing_is_connected_to_or_made_until_something_is_asked(tmp_path: Path) -> None:
    config = config_for(tmp_path / "state")
    connect(config)
    assert not service(config).is_running()
    assert not (tmp_path / "state").exists()


def test_without_a_service_a_repository_is_recorded_and_the_person_is_told(tmp_path: Path) -> None:
    write(tmp_path, {"tree/a.py": "a = 1\n"})
    told: list[str] = []
    app = connect(config_for(tmp_path / "state"), notify=told.append)
    assert app.add(str(tmp_path / "tree"), "lab").result() == {"name": "lab", "root": str(tmp_path / "tree")}
    [line] = told
    assert "lab is not indexed yet" in line
    assert [repo["state"] for repo in app.status()["repos"]] == ["pending"]
