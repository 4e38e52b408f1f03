"""The daemon's API: HTTP/1.1 and JSON over its Unix socket.

An answer that is no error is the JSON that the service gave. Work that is not done within `wait_s` is answered with 202
and a ticket, which `GET /v1/tickets/{ticket}` redeems. Errors are `{"error": {"code", "message"}}`.
"""

from __future__ import annotations

import io
import json
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any, NamedTuple, cast
from urllib.parse import parse_qsl, unquote_to_bytes

from reposyncd.client import STATE_HEADER
from reposyncd.daemon.ledger import Ledger
from reposyncd.daemon.ports import Service, Ticket
from reposyncd.daemon.unix_socket import CONNECTIONS, GRACE_S, UnixSocket
from reposyncd.errors import (
    BusyError,
    DaemonNotRunningError,
    InterruptedSyncError,
    NotFoundError,
    OverloadedError,
    ReposyncError,
    RootMissingError,
    StoreError,
    UsageError,
)

BODY_BYTES = 1_048_576
"""The largest body of a request; the longest query and path take a hundredth of it."""

REQUEST_S = 15.0
"""How long a client may take to send its request, and then again to take the answer."""

WAIT_S = 20.0
"""How long a request waits for the work, unless it says otherwise. Clients tend to give up after 30 s."""

WAIT_MAX_S = 25.0

HITS = 1000
"""The most results of one search."""

_STATUS: dict[type[ReposyncError], HTTPStatus] = {
    ReposyncError: HTTPStatus.INTERNAL_SERVER_ERROR,
    UsageError: HTTPStatus.BAD_REQUEST,
    NotFoundError: HTTPStatus.NOT_FOUND,
    RootMissingError: HTTPStatus.NOT_FOUND,
    BusyError: HTTPStatus.CONFLICT,
    OverloadedError: HTTPStatus.SERVICE_UNAVAILABLE,
    StoreError: HTTPStatus.SERVICE_UNAVAILABLE,
    InterruptedSyncError: HTTPStatus.SERVICE_UNAVAILABLE,
    DaemonNotRunningError: HTTPStatus.MISDIRECTED_REQUEST,
}
"""Of the nearest base that is named."""

_UNHEALTHY = ("failed", "degraded")
"""States of a repo that somebody should look at."""


class Answer(NamedTuple):
    """What a request is answered with."""

    status: HTTPStatus
    content: Mapping[str, Any]
    headers: Mapping[str, str] = {}
    redeems: str | None = None
    """the ticket that is forgotten when this was delivered"""


class Field(NamedTuple):
    """A field of a request."""

    accept: Callable[[Any], Any]
    """the value, from the types that JSON has; raises ValueError with what is allowed"""
    required: bool = False


class Route(NamedTuple):
    """What one method on one path does: it asks for work, or answers at once."""

    fields: Mapping[str, Field]
    ask: Callable[[Service, dict[str, Any]], Ticket] | None = None
    answer: Callable[[Service], Answer] | None = None


class _RefusedError(Exception):
    """Raised when a request is not one of this API; carries the answer."""

    def __init__(self, status: HTTPStatus, code: str, message: str, headers: Mapping[str, str] = {}) -> None:
        super().__init__(message)
        self.answer = Answer(status, {"error": {"code": code, "message": message}}, headers)


class _GoneError(Exception):
    """Raised when the client is gone."""


class Api:
    """Serves `service` at the socket `path`, from when it is made until it is closed; a context manager.

    A client that names another state directory than `state_dir` is refused. Raises BusyError if another daemon listens
    there, and ReposyncError if the place cannot be used. `request_s` is for tests.
    """

    def __init__(self, service: Service, path: str, *, state_dir: str, request_s: float = REQUEST_S) -> None:
        self._service = service
        self._state_dir = os.path.realpath(state_dir)
        self._request_s = request_s
        self._ledger = Ledger(time.monotonic)
        full = OverloadedError(f"{CONNECTIONS} requests are being answered; try again when some are done")
        self._socket = UnixSocket(path, self._converse, refusal=_http(_failure(full)))

    def __enter__(self) -> Api:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self, grace_s: float = GRACE_S) -> None:
        """Listens no more, at once; requests that are being answered have `grace_s` to end, and are cut off then.

        Tickets that the service fails before this are answered with their error. May be called again.
        """
        self._socket.close(grace_s)

    def _converse(self, connection: socket.socket) -> None:
        """One request and its answer. Raises OSError if the client goes away, or takes too long to read."""
        request = _Request(connection, self._request_s)
        try:
            answer, content = self._answer(request)
        except _GoneError:
            return
        connection.settimeout(self._request_s)  # for sendall that is the time for all of it
        connection.sendall(content)
        if answer.redeems:
            self._ledger.forget(answer.redeems)

    def _answer(self, request: _Request) -> tuple[Answer, bytes]:
        """The answer, and as it is sent."""
        head_only = request.command == "HEAD"
        try:
            try:
                answer = request.refusal or self._route(request)
            except _RefusedError as refused:
                answer = refused.answer
            except ReposyncError as error:
                answer = _failure(error)
            return answer, _http(answer, head_only)
        except _GoneError:
            raise
        except Exception:  # the border: whatever the service did wrong, the next request is served
            traceback.print_exc(file=sys.stderr)
            message = "something went wrong inside the daemon that should not; its log has the details"
            answer = _RefusedError(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", message).answer
            return answer, _http(answer, head_only)

    def _route(self, request: _Request) -> Answer:
        self._check_state(request.headers.get(STATE_HEADER))
        path, _, query = request.path.partition("?")
        segments = tuple(path.split("/")[1:])
        if segments[:2] == ("v1", "tickets") and len(segments) == 3:
            if request.command != "GET":
                raise _wrong_method(request.command, path, ["GET"])
            wait_s = _values({}, _query(query)).pop("wait_s")
            return self._wait(segments[2], self._ledger.find(segments[2]), wait_s)
        methods, name = _find(segments, path)
        route = methods.get(request.command)
        if route is None:
            raise _wrong_method(request.command, path, methods)
        if route.answer:
            if query:
                raise UsageError(f"{path} takes no query string")
            return route.answer(self._service)
        values = _values(route.fields, {**_query(query), **_json(request.body())})
        wait_s = values.pop("wait_s")
        if name is not None:
            values["repo"] = name
        ask = cast(Callable[[Service, dict[str, Any]], Ticket], route.ask)
        number, ticket = self._ledger.add(lambda: ask(self._service, values))
        return self._wait(number, ticket, wait_s)

    def _wait(self, number: str, ticket: Ticket, wait_s: float) -> Answer:
        if not ticket.wait(wait_s):
            return Answer(HTTPStatus.ACCEPTED, {"ticket": number, "progress": ticket.progress()})
        try:
            return Answer(HTTPStatus.OK, ticket.result(), redeems=number)
        except ReposyncError as error:
            return _failure(error)._replace(redeems=number)

    def _check_state(self, quoted: str | None) -> None:
        meant = None if quoted is None else os.path.realpath(unquote_to_bytes(quoted))
        if meant not in (None, os.fsencode(self._state_dir)):
            raise DaemonNotRunningError(
                f"no daemon is running for {os.fsdecode(meant or b'')}: the one that listens keeps {self._state_dir}; "
                "set REPOSYNCD_SOCKET to have one for each"
            )


class _Request(BaseHTTPRequestHandler):
    """A request as far as its head; the body is read when it is asked for. `refusal` is set if it is none."""

    default_request_version = "HTTP/1.1"  # whoever sends garbage gets an answer with a head
    protocol_version = "HTTP/1.1"

    def __init__(self, connection: socket.socket, limit_s: float) -> None:
        self.connection = connection
        self.refusal: Answer | None = None
        self.command = ""
        self._limit_s = limit_s
        # send_error is ours, so there is no wfile. Whatever is no HTTP is seen by http.server.
        self.rfile = io.BufferedReader(_Stream(connection, time.monotonic() + limit_s))
        try:
            self._read_head()
        except TimeoutError:
            self.refusal = _too_slow(limit_s).answer
        except _RefusedError as refused:
            self.refusal = refused.answer

    def _read_head(self) -> None:
        self.raw_requestline = self.rfile.readline(_LINE_BYTES + 1)
        if not self.raw_requestline:
            raise ConnectionResetError
        if len(self.raw_requestline) > _LINE_BYTES:
            self.send_error(HTTPStatus.REQUEST_URI_TOO_LONG)
        elif not self.parse_request():
            if self.refusal is None:
                self.send_error(HTTPStatus.BAD_REQUEST)
        elif not self.path.startswith("/"):
            self.send_error(HTTPStatus.BAD_REQUEST, "the path does not begin with /")

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Called for what is no HTTP."""
        status = HTTPStatus(code)
        self.refusal = _RefusedError(status, "bad_http", explain or message or status.phrase).answer

    def handle_expect_100(self) -> bool:
        """Whether the client may send its body; it is told so. One that is too large is not even asked for."""
        self._length()
        self.connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        return True

    def body(self) -> bytes:
        """The body. Raises _RefusedError if it is too large, too slow or shorter than promised."""
        length = self._length()
        try:
            content = self.rfile.read(length)
        except TimeoutError:
            raise _too_slow(self._limit_s) from None
        except OSError:
            raise _GoneError from None
        if len(content) < length:
            raise _GoneError
        return content

    def _length(self) -> int:
        if "Transfer-Encoding" in self.headers:
            raise _RefusedError(HTTPStatus.LENGTH_REQUIRED, "bad_http", "a body needs a Content-Length")
        given = self.headers.get("Content-Length", "0").strip()
        if not (given.isascii() and given.isdigit()):
            raise _RefusedError(HTTPStatus.BAD_REQUEST, "bad_http", "Content-Length is no number")
        length = int(given[:_DIGITS])
        if length > BODY_BYTES:
            message = f"the body has more than {BODY_BYTES:,} bytes"
            raise _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", message)
        return length


_LINE_BYTES = 65_536
"""Of the request line, as of every header in http.client."""

_DIGITS = 12
"""Of a length that are looked at: that many are too large in any case."""


class _Stream(io.RawIOBase):
    """Reads from a connection until a moment (monotonic seconds), however slowly the bytes arrive."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection = connection
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left_s = self._deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        self._connection.settimeout(left_s)
        return self._connection.recv_into(buffer)


def _http(answer: Answer, head_only: bool = False) -> bytes:
    """The answer as it is sent. Raises ValueError if it is no JSON."""
    body = json.dumps(answer.content, allow_nan=False).encode() + b"\n"
    headers = {
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Connection": "close",
        **answer.headers,
    }
    head = f"HTTP/1.1 {answer.status.value} {answer.status.phrase}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in headers.items()) + "\r\n"
    return head.encode("latin-1") + (b"" if head_only else body)


def _failure(error: ReposyncError) -> Answer:
    status = next(_STATUS[each] for each in type(error).__mro__ if each in _STATUS)
    return Answer(status, {"error": {"code": error.code, "message": str(error)}})


def _too_slow(limit_s: float) -> _RefusedError:
    message = f"the request was not there after {limit_s:g} s"
    return _RefusedError(HTTPStatus.REQUEST_TIMEOUT, "too_slow", message)


def _wrong_method(method: str, path: str, allowed: Any) -> _RefusedError:
    known = ", ".join(allowed)
    message = f"{path} cannot be asked with {method}, but with {known}"
    return _RefusedError(HTTPStatus.METHOD_NOT_ALLOWED, "wrong_method", message, {"Allow": known})


def _query(query: str) -> dict[str, Any]:
    """The fields of a query string: numbers, as there are no others."""
    try:
        return {name: float(value) for name, value in parse_qsl(query, keep_blank_values=True, max_num_fields=10)}
    except ValueError:
        raise UsageError("the query string is not one of fields with numbers, such as wait_s=5") from None


def _json(body: bytes) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no number")

    if not body:
        return {}
    try:
        content = json.loads(body, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the body is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise UsageError("the body is no JSON object")
    return content


def _values(fields: Mapping[str, Field], given: Mapping[str, Any]) -> dict[str, Any]:
    """The value of every field, None for those that are not given. Raises UsageError, which names the field."""
    fields = {**fields, "wait_s": Field(_seconds)}
    for name in given:
        if name not in fields:
            raise UsageError(f"there is no field {name[:40]!r} (there is: {', '.join(fields)})")
    values: dict[str, Any] = {}
    for name, field in fields.items():
        value = given.get(name)
        if value is None and field.required:
            raise UsageError(f"the field {name} is missing")
        try:
            values[name] = None if value is None else field.accept(value)
        except ValueError as error:
            raise UsageError(f"the field {name} must be {error}") from None
    if values["wait_s"] is None:
        values["wait_s"] = WAIT_S
    return values


def _seconds(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= WAIT_MAX_S:
        raise ValueError(f"a number of seconds from 0 to {WAIT_MAX_S:g}")
    return float(value)


def _text(value: Any) -> str:
    allowed = ValueError("a string that is not empty, in valid Unicode and without NUL")
    if not isinstance(value, str) or not value or "\0" in value:
        raise allowed
    try:
        value.encode()
    except UnicodeEncodeError:
        raise allowed from None
    return value


def _path(value: Any) -> str:
    """A path may have bytes that are no UTF-8, as lone surrogates (os.fsdecode)."""
    if not isinstance(value, str) or not os.path.isabs(value) or "\0" in value:
        raise ValueError("an absolute path")
    try:
        os.fsencode(value)
    except UnicodeEncodeError:
        raise ValueError("an absolute path") from None
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= HITS:
        raise ValueError(f"a whole number from 1 to {HITS}")
    return value


def _status(service: Service) -> Answer:
    return Answer(HTTPStatus.OK, service.status())


def _repos(service: Service) -> Answer:
    return Answer(HTTPStatus.OK, {"repos": service.status()["repos"]})


def _health(service: Service) -> Answer:
    status = service.status()
    reasons = [
        f"{repo['name']} is {repo['state']}: {repo['reason']}"
        for repo in status["repos"]
        if repo["state"] in _UNHEALTHY
    ]
    if not status["store"]["healthy"]:
        reasons.insert(0, status["store"].get("reason") or "the store is not healthy")
    if not reasons:
        return Answer(HTTPStatus.OK, {"healthy": True, "reasons": []})
    error = {"code": "unhealthy", "message": "; ".join(reasons)}
    return Answer(HTTPStatus.SERVICE_UNAVAILABLE, {"healthy": False, "reasons": reasons, "error": error})


_REPO = {"repo": Field(_text)}
_TREE = {"path": Field(_path, required=True), "name": Field(_text)}
_HITS_DEFAULT = 5

_NAME = "{name}"
"""Stands for a segment of the path that is a repo's name."""

_ROUTES: dict[tuple[str, ...], dict[str, Route]] = {
    ("v1", "status"): {"GET": Route({}, answer=_status)},
    ("v1", "health"): {"GET": Route({}, answer=_health)},
    ("v1", "repos"): {
        "GET": Route({}, answer=_repos),
        "POST": Route(_TREE, lambda service, given: service.add(given["path"], given["name"])),
    },
    ("v1", "repos", _NAME): {"DELETE": Route({}, lambda service, given: service.remove(given["repo"]))},
    ("v1", "pause"): {"POST": Route(_REPO, lambda service, given: service.pause(given["repo"]))},
    ("v1", "resume"): {"POST": Route(_REPO, lambda service, given: service.resume(given["repo"]))},
    ("v1", "flush"): {"POST": Route(_REPO, lambda service, given: service.flush(given["repo"]))},
    ("v1", "sync"): {
        "POST": Route(
            {**_TREE, "full": Field(_flag)},
            lambda service, given: service.sync(given["path"], given["name"], bool(given["full"])),
        )
    },
    ("v1", "search"): {
        "POST": Route(
            {"query": Field(_text, required=True), "limit": Field(_count), **_REPO},
            lambda service, given: service.search(given["query"], given["repo"], given["limit"] or _HITS_DEFAULT),
        )
    },
}


def _find(segments: tuple[str, ...], path: str) -> tuple[Mapping[str, Route], str | None]:
    """The methods of a path, and the repo that it names. Raises NotFoundError."""
    if segments in _ROUTES:
        return _ROUTES[segments], None
    if len(segments) == 3 and (*segments[:2], _NAME) in _ROUTES and segments[2]:
        name = os.fsdecode(unquote_to_bytes(segments[2]))
        try:
            return _ROUTES[(*segments[:2], _NAME)], _text(name)
        except ValueError as error:
            raise UsageError(f"the repository's name must be {error}") from None
    raise NotFoundError(f"there is nothing at {path[:80]}")
