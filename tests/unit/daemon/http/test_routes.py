"""What each path answers, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from reposyncd.app.client import Client, connect
from reposyncd.daemon.http.routes import document
from reposyncd.daemon.http.schemas import WorkRequest
from reposyncd.daemon.http.waiting import BODY_BYTES
from reposyncd.errors import (
    BusyError,
    CorruptStoreError,
    InterruptedSyncError,
    ReposyncError,
    TransientStoreError,
    UsageError,
)
from tests.served import Shelf
from tests.unit.daemon.http.asking import LONG_S, ask, receive, send


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
        ("GET", "/v1/runs?wait_s=1", None, 400, "there is no field 'wait_s' (known: repo, limit)"),
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
        ("POST", "/v1/status", None, 405, "/v1/status does not support POST; use GET"),
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


def test_every_class_of_errors_has_its_code() -> None:
    classes: list[type[ReposyncError]] = [ReposyncError]
    for each in classes:
        classes += each.__subclasses__()
    assert len({each.code for each in classes}) == len(classes)
