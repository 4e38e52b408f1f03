"""Who waits for whom, and what becomes of tickets, disconnected clients and errors."""

from __future__ import annotations

import json
import math
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from reposyncd.app.client import STATE_HEADER, Client, connect
from reposyncd.daemon.events import UNEXPECTED
from reposyncd.daemon.http.api import Api
from reposyncd.daemon.http.dispatch import STARTING
from reposyncd.daemon.http.waiting import WAITING
from reposyncd.errors import (
    BusyError,
    DaemonNotRunningError,
)
from tests.live.service import until
from tests.served import Shelf, Work
from tests.unit.daemon.http.asking import LONG_S, ask, receive, send


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


@pytest.mark.usefixtures("api")
def test_whoever_means_another_state_directory_is_refused(path: str, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    assert Client(path, str(tmp_path / "link")).request("GET", "/v1/status")["version"] == "1.2.3"
    with pytest.raises(DaemonNotRunningError, match=f"the one at this socket uses {tmp_path}"):
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
