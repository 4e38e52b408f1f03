"""Every request to the service, as it arrives at the socket."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reposyncd.app.client import Client
from reposyncd.app.remote import RemoteApp, RemoteTask
from reposyncd.errors import DaemonLostError, InterruptedSyncError, NotFoundError


class Stub:
    """Listens, remembers requests, and answers each with the next of `answers`: (HTTP status, JSON)."""

    def __init__(self, path: str) -> None:
        self.requests: list[tuple[str, str, Any]] = []
        self.answers: list[tuple[int, Any]] = []
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(path)
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as stream:
                method, target, _ = stream.readline().decode().split()
                length = 0
                while line := stream.readline().strip():
                    name, _, value = line.decode().partition(":")
                    length = int(value) if name.lower() == "content-length" else length
                body = json.loads(stream.read(length)) if length else None
                if body is not None:
                    assert body.pop("wait_s") >= 0
                self.requests.append((method, target.partition("wait_s")[0].rstrip("?&"), body))
                status, answer = self.answers.pop(0)
                content = json.dumps(answer).encode()
                connection.sendall(b"HTTP/1.1 %d -\r\nContent-Length: %d\r\n\r\n%s" % (status, len(content), content))


@pytest.fixture
def stub(tmp_path: Path) -> Iterator[Stub]:
    stub = Stub(str(tmp_path / "s"))
    yield stub
    stub.close()


@pytest.fixture
def app(stub: Stub, tmp_path: Path) -> RemoteApp:
    return RemoteApp(Client(str(tmp_path / "s")))


@pytest.mark.parametrize(
    ("ask", "method", "target", "body"),
    [
        (lambda app: app.add("/a/b", "n"), "POST", "/v1/repos", {"path": "/a/b", "name": "n"}),
        (lambda app: app.remove("a b/ü"), "DELETE", "/v1/repos/a%20b%2F%C3%BC", None),
        (lambda app: app.pause(None), "POST", "/v1/pause", {"repo": None}),
        (lambda app: app.resume("lab"), "POST", "/v1/resume", {"repo": "lab"}),
        (lambda app: app.flush("/a"), "POST", "/v1/flush", {"repo": "/a"}),
        (lambda app: app.sync("/a", None, True), "POST", "/v1/sync", {"path": "/a", "name": None, "full": True}),
        (lambda app: app.verify("lab", True), "POST", "/v1/verify", {"repo": "lab", "repair": True}),
        (lambda app: app.search("q", None, 7), "POST", "/v1/search", {"query": "q", "repo": None, "limit": 7}),
    ],
)
def test_a_task_is_one_request_and_its_result_the_answer(
    app: RemoteApp, stub: Stub, ask: Callable[[RemoteApp], RemoteTask[Any]], method: str, target: str, body: Any
) -> None:
    task = ask(app)
    assert stub.requests == []
    stub.answers = [(200, {"done": 1})]
    assert task.result() == {"done": 1}
    assert stub.requests == [(method, target, body)]


def test_status_and_runs_are_answered_at_once(app: RemoteApp, stub: Stub) -> None:
    stub.answers = [(200, {"version": "1"}), (200, {"runs": []}), (200, {"runs": []})]
    assert app.status()["version"] == "1"
    app.runs(None, 10)
    app.runs("/a b", 3)
    assert [target for _, target, _ in stub.requests] == [
        "/v1/status",
        "/v1/runs?limit=10",
        "/v1/runs?limit=3&repo=%2Fa%20b",
    ]


def test_progress_is_told_until_the_ticket_is_done(app: RemoteApp, stub: Stub) -> None:
    stub.answers = [
        (202, {"ticket": "t", "progress": {"phase": "scan"}}),
        (202, {"ticket": "t", "progress": {"phase": "index"}}),
        (200, {"repos": ["lab"], "errors": []}),
    ]
    seen: list[str] = []
    assert app.flush(None).result(lambda progress: seen.append(progress["phase"]))["repos"] == ["lab"]
    assert seen == ["scan", "index"]
    assert [target for _, target, _ in stub.requests] == ["/v1/flush", "/v1/tickets/t", "/v1/tickets/t"]


def test_an_error_is_the_one_that_the_service_names(app: RemoteApp, stub: Stub) -> None:
    stub.answers = [(404, {"error": {"code": "not_found", "message": "there is no lab"}})]
    with pytest.raises(NotFoundError, match="there is no lab"):
        app.pause("lab").result()
    stub.answers = [
        (202, {"ticket": "t", "progress": {}}),
        (404, {"error": {"code": "no_ticket", "message": "unknown"}}),
    ]
    with pytest.raises(DaemonLostError, match="restarted"):
        app.flush(None).result()


def interrupt(progress: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        (lambda app: app.sync("/a", None, False), "the service continues with the sync"),
        (lambda app: app.verify(None, False), "the service finishes the verification"),
    ],
)
def test_ctrl_c_ends_the_wait_and_says_that_the_service_goes_on(
    app: RemoteApp, stub: Stub, ask: Callable[[RemoteApp], RemoteTask[Any]], told: str
) -> None:
    stub.answers = [(202, {"ticket": "t", "progress": {}})]
    with pytest.raises(InterruptedSyncError, match=told):
        ask(app).result(interrupt)


def test_ctrl_c_is_ctrl_c_where_nothing_is_to_be_said(app: RemoteApp, stub: Stub) -> None:
    stub.answers = [(202, {"ticket": "t", "progress": {}})]
    with pytest.raises(KeyboardInterrupt):
        app.flush(None).result(interrupt)


def test_whether_a_service_runs_is_seen_without_asking_it(app: RemoteApp, stub: Stub, tmp_path: Path) -> None:
    assert not RemoteApp(Client(os.fspath(tmp_path / "nobody"))).is_running()
