"""The daemon's API over a real socket, in front of a small service that works."""

from __future__ import annotations

import json
import math
import os
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from reposyncd.app.client import STATE_HEADER, Client, connect, running
from reposyncd.daemon.events import UNEXPECTED
from reposyncd.daemon.http.api import Api
from reposyncd.daemon.http.dispatch import STARTING
from reposyncd.daemon.http.routes import document
from reposyncd.daemon.http.schemas import WorkRequest
from reposyncd.daemon.http.server import CONNECTIONS
from reposyncd.daemon.http.tickets import KEPT_S, TicketStore
from reposyncd.daemon.http.waiting import BODY_BYTES, WAITING
from reposyncd.daemon.ports import Service
from reposyncd.errors import (
    BusyError,
    CorruptStoreError,
    DaemonNotRunningError,
    InterruptedSyncError,
    NoTicketError,
    OverloadedError,
    ReposyncError,
    TransientStoreError,
    UsageError,
)
from tests.live.service import HANGS_S, until
from tests.served import Shelf, Work

LONG_S = 60.0
"""A time-out that only a test which is about to fail reaches."""


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    shelf = Shelf()
    yield shelf
    shelf.close()


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "run" / "reposyncd.sock")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a.txt").write_text("one\ntwo\n")
    return tmp_path / "tree"


@pytest.fixture
def api(shelf: Shelf, path: str, tmp_path: Path) -> Iterator[Api]:
    service: Service = shelf
    with Api(service, path, state_dir=str(tmp_path)) as api:
        yield api


def send(path: str, content: bytes) -> tuple[int, dict[str, Any], bytes]:
    """What is answered to these bytes: status, JSON, head."""
    with connect(path) as connection:
        connection.settimeout(LONG_S)
        with suppress(BrokenPipeError):  # it has answered without reading all
            connection.sendall(content)
        return receive(connection)


def receive(connection: socket.socket) -> tuple[int, dict[str, Any], bytes]:
    received = b""
    try:
        while part := connection.recv(65536):
            received += part
    except ConnectionResetError:
        pass
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body) if body else {}, head


def ask(path: str, method: str, target: str, body: object = None) -> tuple[int, dict[str, Any]]:
    content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n".encode()
    status, answer, _ = send(path, head + content)
    return status, answer


@pytest.mark.usefixtures("api")
def test_every_endpoint_does_what_its_name_says(path: str, tree: Path) -> None:
    assert ask(path, "POST", "/v1/repos", {"path": str(tree), "name": "a b"}) == (
        200,
        {"name": "a b", "root": str(tree)},
    )
    status, answer = ask(path, "GET", "/v1/status")
    assert (status, answer["repos"][0]["name"]) == (200, "a b")
    assert ask(path, "GET", "/v1/repos") == (200, {"repos": answer["repos"]})
    assert ask(path, "POST", "/v1/pause", {"repo": "a b"}) == (200, {"repos": ["a b"]})
    assert ask(path, "GET", "/v1/status")[1]["repos"][0]["state"] == "paused"
    assert ask(path, "POST", "/v1/resume") == (200, {"repos": ["a b"]})
    assert ask(path, "POST", "/v1/flush", {"repo": None}) == (200, {"repos": ["a b"], "errors": []})
    status, answer = ask(path, "POST", "/v1/sync", {"path": str(tree), "name": "a b", "full": True})
    assert (status, answer["files"]["new"]) == (200, 1)
    status, answer = ask(path, "POST", "/v1/search", {"query": "o", "limit": 1})
    assert (status, [hit["text"] for hit in answer["hits"]]) == (200, ["one\n"])
    status, answer = ask(path, "POST", "/v1/verify", {"repo": "a b", "repair": True})
    assert (status, [each["repaired"] for each in answer["repos"]]) == (200, [True])
    assert ask(path, "GET", "/v1/runs?repo=a%20b&limit=3") == (200, {"runs": [{"repo": "a b", "limit": 3}]})
    assert ask(path, "GET", "/v1/runs") == (200, {"runs": [{"repo": "a b", "limit": 10}]})
    assert ask(path, "DELETE", "/v1/repos/a%20b?wait_s=5") == (200, {"name": "a b", "root": str(tree)})
    assert ask(path, "GET", "/v1/repos") == (200, {"repos": []})


@pytest.mark.usefixtures("api")
def test_health_is_503_with_every_reason(path: str, shelf: Shelf) -> None:
    assert ask(path, "GET", "/v1/health") == (200, {"healthy": True, "reasons": []})
    shelf.roots = {"a": "/a", "b": "/b", "c": "/c"}
    shelf.states = {"a": "failed", "b": "degraded", "c": "missing"}
    shelf.store |= {"healthy": False, "reason": "the disk is full"}
    status, answer = ask(path, "GET", "/v1/health")
    assert status == 503
    assert answer["reasons"] == [
        "the disk is full",
        "a is failed: somebody made it failed",
        "b is degraded: somebody made it degraded",
    ]
    assert answer["error"]["code"] == "unhealthy"
    assert set(answer) == set(document()["components"]["schemas"]["Health"]["properties"])


@pytest.mark.usefixtures("api")
def test_a_service_is_well_whose_repository_is_missing(path: str, shelf: Shelf) -> None:
    shelf.roots, shelf.states = {"c": "/c"}, {"c": "missing"}
    assert ask(path, "GET", "/v1/health") == (200, {"healthy": True, "reasons": []})


@pytest.mark.usefixtures("api")
def test_what_is_not_said_is_as_the_document_has_it(path: str, shelf: Shelf, tree: Path) -> None:
    def documented(fields: Mapping[str, Any]) -> dict[str, Any]:
        return {name: schema["default"] for name, schema in fields.items() if "default" in schema}

    def of_body(target: str) -> dict[str, Any]:
        body = document()["paths"][target]["post"]["requestBody"]["content"]["application/json"]["schema"]
        return documented(body["properties"])

    parameters = document()["paths"]["/v1/runs"]["get"]["parameters"]
    shelf.roots = {"a": str(tree)}
    (tree / "a.txt").write_text("one\n" * 2000)
    search, verify, sync = of_body("/v1/search"), of_body("/v1/verify"), of_body("/v1/sync")
    assert (set(search), set(verify), set(sync)) == ({"limit", "wait_s"}, {"repair", "wait_s"}, {"full", "wait_s"})
    assert documented({each["name"]: each["schema"] for each in parameters}) == {
        "limit": ask(path, "GET", "/v1/runs")[1]["runs"][0]["limit"]
    }
    assert search["limit"] == len(ask(path, "POST", "/v1/search", {"query": "one"})[1]["hits"])
    assert search["wait_s"] == WorkRequest().wait_s
    assert verify["repair"] is ask(path, "POST", "/v1/verify")[1]["repos"][0]["repaired"]
    assert sync["full"] is bool(ask(path, "POST", "/v1/sync", {"path": str(tree)})[1]["files"]["new"])


@pytest.mark.usefixtures("api")
@pytest.mark.parametrize(
    ("method", "target", "body", "status", "message"),
    [
        ("POST", "/v1/search", {"query": "x", "fresh": True}, 400, "there is no field 'fresh'"),
        ("POST", "/v1/search", {"repo": "x"}, 400, "the field query is missing"),
        ("POST", "/v1/search", {"query": None}, 400, "the field query is missing"),
        ("POST", "/v1/search", {"query": 5}, 400, "the field query must be a string"),
        ("POST", "/v1/search", {"query": ""}, 400, "the field query must be a string that is not blank"),
        ("POST", "/v1/search", {"query": " \t\n\u00a0"}, 400, "the field query must be a string that is not blank"),
        ("POST", "/v1/search", {"query": "\udc80"}, 400, "the field query must be"),
        ("POST", "/v1/search", {"query": "x" * 10_001}, 400, "of at most 10,000 characters"),
        ("POST", "/v1/search", {"query": "x", "repo": "x" * 4097}, 400, "of at most 4,096 characters"),
        ("POST", "/v1/search", {"query": "x", "limit": 0}, 400, "the field limit must be a whole number from 1"),
        ("POST", "/v1/search", {"query": "x", "limit": True}, 400, "the field limit"),
        ("POST", "/v1/search", {"query": "x", "limit": 2.5}, 400, "the field limit"),
        ("POST", "/v1/search", {"query": "x", "wait_s": 26}, 400, "the field wait_s must be a number of seconds"),
        ("POST", "/v1/search", {"query": "x", "wait_s": math.nan}, 400, "NaN is not a number"),
        ("POST", "/v1/search", b'{"query": "x", "wait_s": 1e999}', 400, "the field wait_s"),
        ("POST", "/v1/search", b'{"query": ', 400, "not valid JSON"),
        ("POST", "/v1/search", b"[" * 500_000, 400, "not valid JSON"),
        ("POST", "/v1/search", b'{"limit": ' + b"9" * 5000 + b"}", 400, "not valid JSON"),
        ("POST", "/v1/search", b"\xff", 400, "not valid JSON"),
        ("POST", "/v1/search", b'["x"]', 400, "not a JSON object"),
        ("POST", "/v1/sync", {"path": "here"}, 400, "the field path must be an absolute path"),
        ("POST", "/v1/sync", {"path": "/a\0b"}, 400, "the field path"),
        ("POST", "/v1/sync", {"path": "/" + "x" * 4096}, 400, "of at most 4,096 characters"),
        ("POST", "/v1/repos", {"path": "/", "name": "x" * 4097}, 400, "of at most 4,096 characters"),
        ("POST", "/v1/sync", {"path": "/", "full": "yes"}, 400, "the field full must be true or false"),
        ("POST", "/v1/flush?repo=x", None, 400, "there is no field 'repo'"),
        ("POST", "/v1/flush?wait_s=soon", None, 400, "the field wait_s must be a number of seconds"),
        ("GET", "/v1/runs?limit=0", None, 400, "the field limit must be a whole number from 1"),
        ("GET", "/v1/runs?limit=1.5", None, 400, "the field limit must be a whole number"),
        ("GET", "/v1/runs?repo=", None, 400, "the field repo must be a string that is not empty"),
        ("GET", "/v1/runs?repo=%ff", None, 400, "the field repo must be a string"),
        ("GET", "/v1/runs?wait_s=1", None, 400, "there is no field 'wait_s' (there is: repo, limit)"),
        ("GET", "/v1/runs?repo=nobody", None, 404, 'there is no repository "nobody"'),
        ("GET", "/metrics?x=1", None, 400, "no query string"),
        ("POST", "/v1/flush?wait_s=-1", None, 400, "the field wait_s"),
        ("GET", "/v1/status?x=1", None, 400, "no query string"),
        ("GET", "/v1/tickets/0?limit=1", None, 400, "there is no field 'limit'"),
        ("POST", "/v1/sync", {"path": "/no/such/place"}, 404, "/no/such/place does not exist"),
        ("DELETE", "/v1/repos/nobody", None, 404, 'there is no repository "nobody"'),
        ("DELETE", "/v1/repos/a%00b", None, 400, "the field name must be a string"),
        ("DELETE", "/v1/repos/" + "x" * 4097, None, 400, "of at most 4,096 characters"),
        ("GET", "/v1/tickets/0", None, 404, "there is no ticket"),
        ("GET", "/v2/status", None, 404, "there is nothing at /v2/status"),
        ("GET", "/", None, 404, "there is nothing at /"),
        ("GET", "/v1/repos/", None, 404, "there is nothing"),
        ("POST", "/v1/status", None, 405, "/v1/status cannot be requested with POST; use GET"),
        ("POST", "/v1/tickets/0", None, 405, "use GET"),
        ("BREW", "/v1/repos", None, 405, "use GET, POST"),
    ],
)
def test_what_is_no_request_of_this_api_is_refused_and_the_message_says_why(
    path: str, method: str, target: str, body: object, status: int, message: str
) -> None:
    found, answer = ask(path, method, target, body)
    assert (found, list(answer)) == (status, ["error"])
    assert message in answer["error"]["message"]


@pytest.mark.usefixtures("api")
@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"\x00\x01\x02\xff\r\n\r\n", 400),
        (b"\r\n", 400),
        (b"GET nowhere HTTP/1.1\r\n\r\n", 400),
        (b"GET /v1/status HTTP/x\r\n\r\n", 400),
        (b"GET /v1/status HTTP/2.0\r\nHost: x\r\n\r\n", 505),
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET /v1/status HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", 431),
        (b"POST /v1/flush HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /v1/flush HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n", 400),
        (b"POST /v1/flush HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n\r\n", 400),
        (b"POST /v1/flush HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n0\r\n\r\n", 501),
        (
            b"POST /v1/flush HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (BODY_BYTES + 1)
            + b"x" * (BODY_BYTES + 1),
            413,
        ),
        (b"POST /v1/flush HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", 400),
        (b"POST /v1/flush HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9000000\r\n\r\n", 413),
    ],
)
def test_garbage_is_answered_as_such_and_harms_nobody(path: str, content: bytes, status: int) -> None:
    found, answer, head = send(path, content)
    assert found == status
    assert str(status) in document()["paths"]["/v1/flush"]["post"]["responses"]
    assert answer["error"]["message"]
    assert b"content-type: application/json" in head.lower()
    assert ask(path, "GET", "/v1/status")[0] == 200


@pytest.mark.usefixtures("api")
def test_a_client_that_asks_first_is_told_to_send_its_body(path: str, shelf: Shelf) -> None:
    shelf.roots = {"a": "/a"}
    with connect(path) as connection:
        connection.settimeout(LONG_S)
        connection.sendall(b"POST /v1/flush HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 13\r\n\r\n")
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b'{"repo": "a"}')
        assert receive(connection)[1] == {"repos": ["a"], "errors": []}


@pytest.mark.usefixtures("api")
@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (UsageError("no"), 400, "usage"),
        (BusyError("held"), 409, "busy"),
        (TransientStoreError("later"), 503, "store_transient"),
        (CorruptStoreError("garbled"), 503, "store_corrupt"),
        (InterruptedSyncError("stopped"), 503, "interrupted"),
        (ReposyncError("other"), 500, "failed"),
    ],
)
def test_an_error_has_a_code_of_its_own_and_comes_back_as_the_same_class(
    path: str, shelf: Shelf, error: ReposyncError, status: int, code: str
) -> None:
    shelf.broken = error
    assert ask(path, "POST", "/v1/flush") == (status, {"error": {"code": code, "message": str(error)}})
    with pytest.raises(type(error), match=str(error)) as raised:
        Client(path).request("POST", "/v1/flush")
    assert type(raised.value) is type(error)


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


def test_status_and_tickets_are_answered_while_everybody_waits(shelf: Shelf, api: Api, path: str) -> None:
    shelf.roots = {"a": "/a"}
    shelf.gate.clear()
    number = ask(path, "POST", "/v1/flush", {"wait_s": 0})[1]["ticket"]
    with ExitStack() as stack:
        dribbling = stack.enter_context(connect(path))
        dribbling.sendall(b"GET /v1/sta")
        waiting = [stack.enter_context(connect(path)) for _ in range(STARTING + WAITING)]
        for each in waiting:
            each.settimeout(LONG_S)
            each.sendall(b"POST /v1/flush HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        for _ in range(len(waiting) + 1):
            assert shelf.asked.acquire(timeout=LONG_S)
        assert ask(path, "GET", "/v1/status")[0] == 200
        assert ask(path, "GET", f"/v1/tickets/{number}?wait_s=0")[0] == 202
        shelf.gate.set()
        assert [receive(each)[0] for each in waiting] == [200] * len(waiting)


class Slow(Shelf):
    """Takes its time to take on a search: until it may go on."""

    def __init__(self) -> None:
        super().__init__()
        self.searches: list[str] = []
        self.search_asked = threading.Semaphore(0)
        self.may_go_on = threading.Event()

    def search(self, query: str, repo: str | None, limit: int) -> Work:
        self.searches.append(query)
        self.search_asked.release()
        assert self.may_go_on.wait(LONG_S)
        return super().search(query, repo, limit)


def search_for(query: str) -> bytes:
    body = json.dumps({"query": query}).encode()
    return b"POST /v1/search HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body


@contextmanager
def searching(path: str, shelf: Slow) -> Iterator[list[socket.socket]]:
    """Clients that are searching, as many as the service is asked by at once; it has taken on none of it."""
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(path)) for _ in range(STARTING)]
        for each in clients:
            each.settimeout(LONG_S)
            each.sendall(search_for("early"))
        for _ in clients:
            assert shelf.search_asked.acquire(timeout=LONG_S)
        try:
            yield clients
        finally:
            shelf.may_go_on.set()


@pytest.fixture
def slow(tree: Path) -> Iterator[Slow]:
    slow = Slow()
    slow.roots = {"a": str(tree)}
    yield slow
    slow.may_go_on.set()
    slow.close()


def test_status_and_tickets_are_answered_while_the_service_is_slow_to_take_on_work(
    path: str, tmp_path: Path, slow: Slow
) -> None:
    with Api(slow, path, state_dir=str(tmp_path)):
        slow.gate.clear()
        number = ask(path, "POST", "/v1/flush", {"wait_s": 0})[1]["ticket"]
        slow.gate.set()
        with searching(path, slow) as clients:
            assert ask(path, "GET", "/v1/status")[0] == 200
            assert ask(path, "GET", "/v1/health")[0] == 200
            assert ask(path, "GET", f"/v1/tickets/{number}")[0] == 200
            slow.may_go_on.set()
            assert {receive(each)[0] for each in clients} == {200}


def test_what_clients_asked_that_are_gone_when_its_turn_comes_is_not_begun(
    path: str, tmp_path: Path, slow: Slow
) -> None:
    with Api(slow, path, state_dir=str(tmp_path)) as api, searching(path, slow) as clients:
        for _ in range(2):
            with ExitStack() as stack:
                for _ in range(WAITING):
                    stack.enter_context(connect(path)).sendall(search_for("nobody waits for this"))
                until(lambda: waiting(api) == WAITING, "all of them wait for their turn")
            until(lambda: waiting(api) == 0, "none of them has kept its place in the queue")
        with connect(path) as patient:
            patient.settimeout(LONG_S)
            patient.sendall(search_for("late"))
            until(lambda: waiting(api) == 1, "it waits for its turn")
            slow.may_go_on.set()
            assert {receive(each)[0] for each in (*clients, patient)} == {200}
        assert slow.searches == ["early"] * STARTING + ["late"]


def test_when_too_many_wait_for_their_turn_the_next_is_refused_and_those_are_served(
    path: str, tmp_path: Path, slow: Slow
) -> None:
    with (
        Api(slow, path, state_dir=str(tmp_path)) as api,
        searching(path, slow) as clients,
        ExitStack() as stack,
    ):
        for _ in range(WAITING):
            clients.append(stack.enter_context(connect(path)))
            clients[-1].settimeout(LONG_S)
            clients[-1].sendall(search_for("later"))
        until(lambda: waiting(api) == WAITING, "all of them wait for their turn")
        status, answer = ask(path, "POST", "/v1/search", {"query": "too late"})
        assert (status, answer["error"]["code"]) == (503, "overloaded")
        assert ask(path, "GET", "/v1/status")[0] == 200
        slow.may_go_on.set()
        assert {receive(each)[0] for each in clients} == {200}
        assert "too late" not in slow.searches


def waiting(api: Api) -> int:
    """Requests that wait until the service can be asked."""
    return api.dispatcher.starting.statistics().tasks_waiting


def test_a_client_that_goes_while_it_waits_frees_its_place_and_its_ticket_and_the_service_is_told(
    path: str, tmp_path: Path
) -> None:
    given: list[Work] = []

    class Remembers(Shelf):
        def flush(self, repo: str | None) -> Work:
            given.append(super().flush(repo))
            return given[-1]

    shelf = Remembers()
    shelf.roots = {"a": "/a"}
    with Api(shelf, path, state_dir=str(tmp_path)) as api:
        shelf.gate.clear()
        with connect(path) as connection:
            connection.sendall(b"POST /v1/flush HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
            assert shelf.asked.acquire(timeout=LONG_S)
        until(lambda: not api.connections and not len(api.dispatcher.tickets), "it is forgotten")
        until(lambda: not given[0].is_wanted, "the service is told")
        shelf.gate.set()
        assert ask(path, "POST", "/v1/flush")[0] == 200
        assert given[1].is_wanted
    shelf.close()


def test_every_class_of_errors_has_its_code() -> None:
    classes: list[type[ReposyncError]] = [ReposyncError]
    for each in classes:
        classes += each.__subclasses__()
    assert len({each.code for each in classes}) == len(classes)


@pytest.mark.usefixtures("api")
@pytest.mark.parametrize("broken", [ZeroDivisionError("secret"), OSError(5, "secret")])
def test_a_mistake_inside_is_500_and_the_log_says_where_it_was(
    path: str, shelf: Shelf, broken: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    shelf.broken = broken
    status, answer = ask(path, "POST", "/v1/flush")
    assert (status, answer["error"]["code"]) == (500, "internal")
    assert "secret" not in answer["error"]["message"]
    [record] = [record for record in caplog.records if getattr(record, "log_event", None) is UNEXPECTED]
    fields = vars(record)["fields"]
    assert fields["reason"].startswith(type(broken).__name__) and "served.py" in fields["frames"]


@pytest.mark.usefixtures("api")
def test_an_answer_that_is_no_json_is_500(path: str, shelf: Shelf) -> None:
    shelf.store["healthy"] = math.nan
    assert ask(path, "GET", "/v1/status")[1]["error"]["code"] == "internal"


@pytest.mark.usefixtures("api")
def test_work_that_takes_longer_than_one_waits_is_a_ticket_that_is_redeemed_once(path: str, shelf: Shelf) -> None:
    shelf.roots = {"a": "/a"}
    shelf.dirty = {"a": ["x.py"]}
    shelf.gate.clear()
    status, answer = ask(path, "POST", "/v1/flush", {"wait_s": 0})
    assert status == 202
    assert answer["progress"]["pending"] == [{"repo": "a", "paths": ["x.py"], "why": "the gate is closed"}]
    ticket = f"/v1/tickets/{answer['ticket']}"
    assert ask(path, "GET", f"{ticket}?wait_s=0.01") == (202, answer)
    shelf.gate.set()
    assert ask(path, "GET", ticket) == (200, {"repos": ["a"], "errors": []})
    assert ask(path, "GET", ticket)[0] == 404


@pytest.mark.usefixtures("api")
def test_work_that_fails_later_is_told_so_once(path: str, shelf: Shelf) -> None:
    shelf.gate.clear()
    _, answer = ask(path, "POST", "/v1/flush?wait_s=0", {})
    shelf.broken = BusyError("held")
    shelf.gate.set()
    assert ask(path, "GET", f"/v1/tickets/{answer['ticket']}")[0] == 409
    assert ask(path, "GET", f"/v1/tickets/{answer['ticket']}")[0] == 404


def test_tickets_that_are_done_are_forgotten_after_a_while_and_others_never(shelf: Shelf) -> None:
    clock = [0.0]
    ledger = TicketStore(lambda: clock[0], limit=2)
    shelf.roots = {"a": "/a"}
    done, work = ledger.add(lambda: shelf.flush(None))
    assert work.wait(LONG_S)
    shelf.gate.clear()
    waiting, _ = ledger.add(lambda: shelf.flush(None))
    clock[0] = KEPT_S - 1
    assert ledger.find(done) is work
    clock[0] = 2 * KEPT_S
    ledger.find(waiting)
    with pytest.raises(NoTicketError):
        ledger.find(done)


def test_when_there_is_no_room_for_a_ticket_one_that_is_done_makes_it_and_else_nothing_is_begun(shelf: Shelf) -> None:
    ledger = TicketStore(lambda: 0.0, limit=2)
    shelf.roots = {"a": "/a"}
    done, work = ledger.add(lambda: shelf.flush(None))
    assert work.wait(LONG_S)
    assert shelf.asked.acquire(timeout=LONG_S)
    shelf.gate.clear()
    kept = [ledger.add(lambda: shelf.flush(None))[0] for _ in range(2)]
    with pytest.raises(NoTicketError):
        ledger.find(done)
    for number in kept:
        ledger.find(number)
        assert shelf.asked.acquire(timeout=LONG_S)
    with pytest.raises(OverloadedError):
        ledger.add(lambda: shelf.flush(None))
    assert not shelf.asked.acquire(blocking=False)


def test_a_slow_client_holds_nobody_up_and_is_sent_away(shelf: Shelf, path: str, tmp_path: Path) -> None:
    with (
        Api(shelf, path, state_dir=str(tmp_path), request_s=1.0),
        connect(path) as head,
        connect(path) as body,
        connect(path) as mute,
    ):
        mute.settimeout(LONG_S)
        head.settimeout(LONG_S)
        head.sendall(b"GET /v1/stat")
        body.settimeout(LONG_S)
        body.sendall(b"POST /v1/flush HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n{")
        assert ask(path, "GET", "/v1/status")[0] == 200

        def are_sent_away() -> bool:
            try:
                head.sendall(b"x")
                body.sendall(b" ")
            except (BrokenPipeError, ConnectionResetError):
                return True
            return False

        until(are_sent_away, "a byte now and then does not buy more time")
        assert receive(head)[0] == 408
        assert receive(body)[0] == 408
        assert receive(mute)[0] == 408


def test_a_client_that_does_not_read_is_left(shelf: Shelf, path: str, tmp_path: Path) -> None:
    shelf.store["reason"] = "x" * 10_000_000
    with Api(shelf, path, state_dir=str(tmp_path), request_s=0.5) as api, connect(path) as connection:
        connection.sendall(b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n")
        connection.settimeout(LONG_S)
        connection.recv(1)
        until(lambda: not api.connections, "it is cut off")


@pytest.mark.usefixtures("api")
def test_the_65th_connection_is_told_to_come_back_and_the_next_is_served(path: str) -> None:
    idle = [connect(path) for _ in range(CONNECTIONS)]
    with connect(path) as one_too_many:
        one_too_many.settimeout(LONG_S)
        status, answer, _ = receive(one_too_many)
    assert (status, answer["error"]["code"]) == (503, "overloaded")
    with pytest.raises(OverloadedError):
        Client(path).request("GET", "/v1/status")
    for connection in idle:
        connection.close()
    until(lambda: ask(path, "GET", "/v1/status")[0] == 200, "there is room again")


@pytest.mark.usefixtures("api")
def test_the_socket_is_private(path: str) -> None:
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_is_not_heard_even_where_the_file_system_lets_him_in(shelf: Shelf, tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "s")
        with Api(shelf, path, state_dir=str(tmp_path)):
            os.chmod(directory, 0o755)
            os.chmod(path, 0o666)
            script = (
                "import os, socket, sys\n"
                "if sys.argv[2] != '0': os.setuid(int(sys.argv[2]))\n"
                "s = socket.socket(socket.AF_UNIX)\n"
                "s.connect(sys.argv[1])\n"
                "try:\n"
                "    s.sendall(b'GET /v1/status HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n')\n"
                "    print(len(s.recv(100)))\n"
                "except OSError: print(0)\n"
            )
            command = [sys.executable, "-c", script, path]
            assert int(subprocess.run([*command, "0"], capture_output=True, text=True, check=True).stdout) > 0
            assert int(subprocess.run([*command, "65534"], capture_output=True, text=True, check=True).stdout) == 0


def test_a_socket_that_a_dead_daemon_left_is_replaced_and_that_of_a_live_one_is_not(
    shelf: Shelf, path: str, tmp_path: Path
) -> None:
    os.mkdir(os.path.dirname(path))
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    with Api(shelf, path, state_dir=str(tmp_path)):
        assert ask(path, "GET", "/v1/status")[0] == 200
        with pytest.raises(BusyError, match="another reposyncd service listens at"):
            Api(shelf, path, state_dir=str(tmp_path))
        assert ask(path, "GET", "/v1/status")[0] == 200


def test_a_file_that_is_no_socket_is_left_alone(shelf: Shelf, path: str, tmp_path: Path) -> None:
    os.mkdir(os.path.dirname(path))
    Path(path).write_text("precious")
    with pytest.raises(ReposyncError, match="is not a socket"):
        Api(shelf, path, state_dir=str(tmp_path))
    assert Path(path).read_text() == "precious"


def test_a_directory_that_others_may_write_to_is_refused(shelf: Shelf, path: str, tmp_path: Path) -> None:
    os.mkdir(os.path.dirname(path))
    os.chmod(os.path.dirname(path), 0o770)
    with pytest.raises(ReposyncError, match="chmod go-w"):
        Api(shelf, path, state_dir=str(tmp_path))


def test_a_directory_that_cannot_be_made_is_named(shelf: Shelf, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ReposyncError, match="file/run cannot be made: Not a directory"):
        Api(shelf, str(tmp_path / "file" / "run" / "s"), state_dir=str(tmp_path))


def test_a_long_path_is_no_hindrance_and_a_long_name_is_said(shelf: Shelf, tmp_path: Path) -> None:
    directory = tmp_path / ("d" * 100) / ("e" * 100)
    path = str(directory / "reposyncd.sock")
    with Api(shelf, path, state_dir=str(tmp_path)):
        assert os.listdir(directory) == ["reposyncd.sock"]
        assert Client(path).request("GET", "/v1/status")["version"] == "1.2.3"
        with pytest.raises(BusyError):
            Api(shelf, path, state_dir=str(tmp_path))
    assert os.listdir(directory) == []
    with pytest.raises(ReposyncError, match=r"f+: the socket's name is too long"):
        Api(shelf, str(directory / ("f" * 100)), state_dir=str(tmp_path))


def test_of_many_that_start_at_once_one_finds_the_place_free(
    shelf: Shelf, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkdir(os.path.dirname(path))
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    both_found_it_free = threading.Barrier(2)

    def running_and_then_slow(path: str) -> bool:
        found = running(path)
        if not found:
            with suppress(threading.BrokenBarrierError):
                both_found_it_free.wait(0.3)  # long enough for another to come to the same conclusion
        return found

    monkeypatch.setattr("reposyncd.daemon.http.sockets.running", running_and_then_slow)
    started: list[Api] = []
    refused: list[BusyError] = []

    def start() -> None:
        try:
            started.append(Api(shelf, path, state_dir=str(tmp_path)))
        except BusyError as error:
            refused.append(error)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG_S)
    assert (len(started), len(refused)) == (1, 7)
    assert ask(path, "GET", "/v1/status")[0] == 200
    started[0].close()
    assert not os.path.exists(path)


def test_a_close_ends_the_thread_that_accepts_and_removes_the_file_that_is_its_own(api: Api, path: str) -> None:
    thread = api._server.thread
    assert thread.is_alive()
    api.close()
    api.close()
    assert not thread.is_alive()
    assert not os.path.exists(path)
    assert not running(path)


def test_a_close_leaves_a_file_that_another_put_in_the_place(api: Api, path: str) -> None:
    os.rename(path, path + ".kept")  # so that the inode is not given to the next
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
        api.close()
        assert os.path.exists(path)


def test_a_close_leaves_a_file_of_the_same_inode_on_another_file_system(
    api: Api, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two tmpfs give their first files the same inodes; here one lies about its device."""
    real = os.stat

    def stat_of_another_device(*args: Any, **options: Any) -> os.stat_result:
        found = list(real(*args, **options))
        found[stat.ST_DEV] += 1
        return os.stat_result(found)

    with monkeypatch.context() as patch:
        patch.setattr("os.stat", stat_of_another_device)
        patch.setattr("os.lstat", stat_of_another_device)
        assert not api.is_reachable
        api.close()
    assert os.path.exists(path)


@pytest.mark.parametrize("spoil", ["file", "directory", "place"])
def test_a_socket_whose_file_is_gone_says_so_and_another_can_take_the_place(
    shelf: Shelf, api: Api, path: str, tmp_path: Path, spoil: str
) -> None:
    assert api.is_reachable
    if spoil == "directory":
        os.rename(os.path.dirname(path), tmp_path / "elsewhere")
    else:
        os.rename(path, path + ".kept")  # so that the inode is not given to the next
    if spoil == "place":
        Path(path).touch()
    assert not api.is_reachable
    api.close()
    if spoil == "place":
        os.unlink(path)
    with Api(shelf, path, state_dir=str(tmp_path)) as again:
        assert again.is_reachable
        assert ask(path, "GET", "/v1/status")[0] == 200
    assert not again.is_reachable


def test_a_close_while_a_request_waits_lets_it_end_or_cuts_it_off(
    shelf: Shelf, api: Api, path: str, tmp_path: Path
) -> None:
    shelf.roots = {"a": "/a"}
    shelf.gate.clear()
    request = b"POST /v1/flush HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    with connect(path) as waiting:
        waiting.settimeout(LONG_S)
        waiting.sendall(request)
        assert shelf.asked.acquire(timeout=LONG_S)
        api.close(grace_s=0)
        assert waiting.recv(100) == b""
    with Api(shelf, path, state_dir=str(tmp_path)) as again, connect(path) as waiting:
        waiting.settimeout(LONG_S)
        waiting.sendall(request)
        assert shelf.asked.acquire(timeout=LONG_S)
        closing = threading.Thread(target=again.close, args=(LONG_S,))
        closing.start()
        until(lambda: not os.path.exists(path), "it listens no more")
        shelf.gate.set()
        assert receive(waiting)[0] == 200
        closing.join(LONG_S)
        assert not closing.is_alive()


_EPOLL_WAITS = ("232", "281", "22")
"""epoll_wait(2) and epoll_pwait(2) on x86-64, epoll_pwait(2) on arm64; of each the fourth argument is the time-out."""


def test_nothing_wakes_up_while_nobody_asks(api: Api, path: str) -> None:
    def sleeps_until_somebody_comes() -> bool:
        """Whether the thread that serves is inside such a call, with a time-out of -1 (proc_pid_syscall(5))."""
        call = Path(f"/proc/self/task/{api._server.thread.native_id}/syscall").read_text().split()
        return call[0] in _EPOLL_WAITS and int(call[4], 16) & 0xFFFF_FFFF == 0xFFFF_FFFF

    until(sleeps_until_somebody_comes, "before the first request")
    ask(path, "GET", "/v1/status")
    ask(path, "POST", "/v1/flush")
    until(lambda: not api.connections and sleeps_until_somebody_comes(), "after the last one")


@pytest.mark.usefixtures("api")
def test_whoever_means_another_state_directory_is_refused(path: str, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    assert Client(path, str(tmp_path / "link")).request("GET", "/v1/status")["version"] == "1.2.3"
    with pytest.raises(DaemonNotRunningError, match=f"the one at this socket keeps {tmp_path}"):
        Client(path, "/else where/ü").request("POST", "/v1/flush")


@pytest.mark.usefixtures("api")
@pytest.mark.parametrize("name", ["%00", "/a%00b", "", "state", "%FF"])
def test_a_name_that_no_state_directory_can_have_is_said_to_be_none(path: str, name: str) -> None:
    status, answer, _ = send(path, f"GET /v1/status HTTP/1.1\r\nHost: x\r\n{STATE_HEADER}: {name}\r\n\r\n".encode())
    assert (status, answer["error"]["code"]) == (400, "usage")
    assert "must be an absolute path" in answer["error"]["message"]


@pytest.mark.usefixtures("api")
def test_a_client_that_names_a_mount_that_hangs_waits_alone(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs, may_go_on, real = threading.Event(), threading.Event(), os.path.realpath

    def realpath(name: bytes) -> bytes:
        if name.startswith(b"/hangs"):
            hangs.set()
            assert may_go_on.wait(LONG_S)
        return real(name)

    (tmp_path / "link").symlink_to(tmp_path)
    monkeypatch.setattr("os.path.realpath", realpath)
    with connect(path) as waiting:
        waiting.settimeout(LONG_S)
        waiting.sendall(f"GET /v1/status HTTP/1.1\r\nHost: x\r\n{STATE_HEADER}: /hangs/state\r\n\r\n".encode())
        assert hangs.wait(LONG_S)
        for name in (None, str(tmp_path), str(tmp_path / "link")):
            assert Client(path, name).request("GET", "/v1/status", timeout_s=5)["version"] == "1.2.3"
        may_go_on.set()
        assert receive(waiting)[0] == 421


def test_the_state_directory_is_known_by_the_name_that_the_service_was_given_without_a_look_at_the_disk(
    shelf: Shelf, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with Api(shelf, path, state_dir=str(tmp_path / "link")):
        monkeypatch.delattr("os.path.realpath")
        for name in ("link", ""):
            assert Client(path, str(tmp_path / name)).request("GET", "/v1/status")["version"] == "1.2.3"


def test_nothing_of_an_api_that_was_closed_is_left(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with Api(Shelf(), path, state_dir=str(tmp_path)) as api:
            assert running(path) and api.ping(HANGS_S)
        assert not api.ping(0.1)
    assert not running(path)
    assert len(os.listdir("/proc/self/fd")) == before
