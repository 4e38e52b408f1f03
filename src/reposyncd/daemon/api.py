"""The daemon's API: HTTP/1.1 and JSON over its Unix socket.

An answer that is no error is the JSON that the service gave. Work that is not done within `wait_s` is answered with 202
and a ticket, which `GET /v1/tickets/{ticket}` redeems. Errors are `{"error": {"code", "message"}}`.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from urllib.parse import parse_qsl, unquote_to_bytes

from anyio import CapacityLimiter, to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from reposyncd.client import STATE_HEADER
from reposyncd.config import ApiConfig
from reposyncd.daemon import tcp
from reposyncd.daemon.ledger import Ledger
from reposyncd.daemon.notices import say_unexpected
from reposyncd.daemon.ports import Service, Ticket
from reposyncd.daemon.server import GRACE_S, HEAD_BYTES, OURS, Server
from reposyncd.daemon.unix_socket import listen
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

if TYPE_CHECKING:
    from reposyncd.daemon.openapi import Schema

BODY_BYTES = 1_048_576
"""The largest body of a request; the longest query and path take a hundredth of it."""

REQUEST_S = 15.0
"""How long a client may take to send its request, and then again to take the answer."""

WAIT_S = 20.0
"""How long a request waits for the work, unless it says otherwise. Clients tend to give up after 30 s."""

WAIT_MAX_S = 25.0

ASKING = 8
"""Requests that are asked of the service at once, a thread each: a search or a flush may take seconds there."""

LOOKING = 4
"""The same for those that only look, so that they never wait for the others."""

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
    content: Mapping[str, Any] | bytes
    """what is sent as JSON, or as it is"""
    headers: Mapping[str, str] = {}
    media_type: str = "application/json"
    redeems: str | None = None
    """the ticket that is forgotten when this was delivered"""


class Field(NamedTuple):
    """A field of a request."""

    accept: Callable[[Any], Any]
    """the value, from the types that JSON has; raises ValueError with what is allowed"""
    schema: Schema
    """the same for programs"""
    required: bool = False


class Route(NamedTuple):
    """What one method on one path does: it asks for work, or answers at once."""

    summary: str
    gives: str
    """the schema of its answer"""
    fields: Mapping[str, Field]
    ask: Callable[[Service, dict[str, Any]], Ticket] | None = None
    answer: Callable[[Service, dict[str, Any]], Answer] | None = None
    media_type: str = "application/json"


class _RefusedError(Exception):
    """Raised when a request is not one of this API; carries the answer."""

    def __init__(self, status: HTTPStatus, code: str, message: str, headers: Mapping[str, str] = {}) -> None:
        super().__init__(message)
        self.answer = Answer(status, {"error": {"code": code, "message": message}}, headers)


class Api:
    """Serves `service` at the socket `path`, from when it is made until it is closed; a context manager.

    A client that names another state directory than `state_dir` is refused. Raises BusyError if another daemon listens
    there, and ReposyncError if the place cannot be used. `on_death` is called, from the thread that serves, if that
    ends by itself. `request_s` is for tests.
    """

    def __init__(
        self,
        service: Service,
        path: str,
        *,
        state_dir: str,
        request_s: float = REQUEST_S,
        on_death: Callable[[BaseException], None] = lambda error: None,
    ) -> None:
        self._service = service
        self._path = path
        self._state_dir = os.path.realpath(state_dir)
        self._ledger = Ledger(time.monotonic)
        self._door: tcp.Door | None = None
        self._address = ""
        """of TCP, "" for none"""
        self._asking = CapacityLimiter(ASKING)
        self._looking = CapacityLimiter(LOOKING)
        self._closing = threading.Lock()
        listening, self._inode = listen(path)
        self._server = Server(self._serve, listening, request_s=request_s, refuse=_refused, on_death=on_death)

    def __enter__(self) -> Api:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def connections(self) -> int:
        """Clients that are connected."""
        return self._server.connections

    def ping(self, timeout_s: float) -> bool:
        """Whether the thread that serves comes by within that time. For any other thread."""
        return self._server.ping(timeout_s)

    def close(self, grace_s: float = GRACE_S) -> None:
        """Listens no more, at once; requests that are being answered have `grace_s` to end, and are cut off then.

        Tickets that the service fails before this are answered with their error. May be called again. The socket's file
        is removed if it still is this one.
        """
        if not self._closing.acquire(blocking=False):
            return
        with suppress(OSError):  # while this still listens, nobody takes the place for free
            if os.lstat(self._path).st_ino == self._inode:
                os.unlink(self._path)
        self._server.close(grace_s)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request and its answer; an ASGI application."""
        request = Request(scope, receive)
        try:
            answer, content = await self._answer(request)
        except ClientDisconnect:
            return
        await Response(content, answer.status, {**answer.headers}, answer.media_type)(scope, receive, send)
        if answer.redeems:
            self._ledger.forget(answer.redeems)

    async def _answer(self, request: Request) -> tuple[Answer, bytes]:
        """The answer, and its body as it is sent."""
        try:
            try:
                answer = await self._route(request)
            except _RefusedError as refused:
                answer = refused.answer
            except ReposyncError as error:
                answer = _failure(error)
            return answer, _body_of(answer)
        except ClientDisconnect:
            raise
        except Exception as error:  # the border: whatever the service did wrong, the next request is served
            say_unexpected("the API", error)
            message = "something went wrong inside the daemon that should not; its log has the details"
            answer = _RefusedError(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", message).answer
            return answer, _body_of(answer)

    def listen(self, config: ApiConfig) -> None:
        """Over TCP as this configuration has it. From another thread. Raises ReposyncError, and all stays as it was."""
        new = tcp.door(config, self._state_dir) if config.listen else None
        if config.listen != self._address:
            listening = tcp.listen(config.listen) if config.listen else None
            self._door = None if new is None else self._door  # nobody is heard by a door that is not there yet
            self._server.listen_also(listening)
        self._door, self._address = new, config.listen

    def _check_door(self, request: Request) -> None:
        """Over TCP not everybody is heard."""
        if request.scope["state"].get(OURS) is True:
            return
        refusal = self._door.refusal(request.headers.get) if self._door else tcp.Refusal(503, "closed", "not any more")
        if refusal:
            headers = {"WWW-Authenticate": "Bearer"} if refusal.status == HTTPStatus.UNAUTHORIZED else {}
            raise _RefusedError(HTTPStatus(refusal.status), refusal.code, refusal.message, headers)

    async def _route(self, request: Request) -> Answer:
        self._check_door(request)
        path, query = request.scope["raw_path"].decode("ascii"), request.scope["query_string"].decode("latin-1")
        if not path.startswith("/"):
            raise _RefusedError(HTTPStatus.BAD_REQUEST, "bad_http", "the path does not begin with /")
        if len(path) + len(query) > HEAD_BYTES:  # h11 counts only a head that arrives in parts
            raise _RefusedError(HTTPStatus.REQUEST_URI_TOO_LONG, "bad_http", "the path is too long")
        if sum(len(name) + len(value) for name, value in request.headers.raw) > HEAD_BYTES:
            raise _RefusedError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "bad_http", "the headers are too long")
        if request.scope["http_version"] not in ("1.0", "1.1"):
            raise _RefusedError(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "bad_http", "this is HTTP/1.1")
        self._check_state(request.headers.get(STATE_HEADER))
        segments = tuple(path.split("/")[1:])
        if segments[:2] == ("v1", "tickets") and len(segments) == 3:
            if request.method != "GET":
                raise _wrong_method(request.method, path, ["GET"])
            wait_s = _values(_WAIT, _query(query, _WAIT))["wait_s"]
            return await self._wait(request, segments[2], self._ledger.find(segments[2]), wait_s)
        methods, name = _find(segments, path)
        route = methods.get(request.method)
        if route is None:
            raise _wrong_method(request.method, path, methods)
        fields = _fields_of(route)
        if query and not fields:
            raise UsageError(f"{path} takes no query string")
        if route.answer:
            values = _values(fields, _query(query, fields))
            return await to_thread.run_sync(route.answer, self._service, values, limiter=self._looking)
        values = _values(fields, {**_query(query, _WAIT), **_json(await _body(request))})
        wait_s = values.pop("wait_s")
        if name is not None:
            values["repo"] = name
        ask = cast(Callable[[Service, dict[str, Any]], Ticket], route.ask)

        def asked() -> tuple[str, Ticket]:
            return self._ledger.add(lambda: ask(self._service, values))

        number, ticket = await to_thread.run_sync(asked, limiter=self._asking)
        try:
            return await self._wait(request, number, ticket, wait_s)
        except ClientDisconnect:
            self._ledger.forget(number)  # nobody was told the number
            raise

    async def _wait(self, request: Request, number: str, ticket: Ticket, wait_s: float) -> Answer:
        """Waits without a thread. Raises ClientDisconnect."""
        await _body(request)  # what follows it is the end of the connection
        await _ended(request, ticket, wait_s)
        if not ticket.wait(0):
            progress = await to_thread.run_sync(ticket.progress, limiter=self._looking)
            return Answer(HTTPStatus.ACCEPTED, {"ticket": number, "progress": progress})
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


async def _body(request: Request) -> bytes:
    """The body. Raises _RefusedError if it is too large, and ClientDisconnect."""
    too_large = _RefusedError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", f"the body has more than {BODY_BYTES:,} bytes"
    )
    if int(request.headers.get("Content-Length", "0")[:_DIGITS]) > BODY_BYTES:
        raise too_large
    if not hasattr(request.state, "body"):
        content = bytearray()
        async for part in request.stream():
            content += part
            if len(content) > BODY_BYTES:
                raise too_large
        request.state.body = bytes(content)
    return cast(bytes, request.state.body)


_DIGITS = 12
"""Of a length that are looked at: that many are too large in any case."""


async def _ended(request: Request, ticket: Ticket, wait_s: float) -> None:
    """Returns when the ticket has ended, or after that time. Raises ClientDisconnect."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def wake() -> None:
        with suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(ended.set)

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    take_back = ticket.on_end(wake)
    waits = [asyncio.create_task(ended.wait()), asyncio.create_task(gone())]
    try:
        done, _ = await asyncio.wait(waits, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        if waits[1] in done:
            raise ClientDisconnect
    finally:
        take_back()
        for each in waits:
            each.cancel()


def _body_of(answer: Answer) -> bytes:
    """The body as it is sent. Raises ValueError if it is no JSON."""
    if isinstance(answer.content, bytes):
        return answer.content
    return json.dumps(answer.content, allow_nan=False).encode() + b"\n"


def _refused(status: int, message: str) -> bytes:
    """The whole of the answer to what never gets to the application."""
    code = {408: "too_slow", 503: OverloadedError.code}.get(status, "bad_http")
    body = _body_of(Answer(HTTPStatus(status), {"error": {"code": code, "message": message}}))
    return (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    ).encode("latin-1") + body


def _failure(error: ReposyncError) -> Answer:
    status = next(_STATUS[each] for each in type(error).__mro__ if each in _STATUS)
    return Answer(status, {"error": {"code": error.code, "message": str(error)}})


def _wrong_method(method: str, path: str, allowed: Any) -> _RefusedError:
    known = ", ".join(allowed)
    message = f"{path} cannot be asked with {method}, but with {known}"
    return _RefusedError(HTTPStatus.METHOD_NOT_ALLOWED, "wrong_method", message, {"Allow": known})


def _query(query: str, fields: Mapping[str, Field]) -> dict[str, Any]:
    """The fields of a query string, of the types that these fields have in JSON. Raises UsageError."""
    try:
        given = parse_qsl(query, keep_blank_values=True, max_num_fields=10, errors="surrogateescape")
    except ValueError:
        raise UsageError("the query string is none: name=value&name=value") from None
    _check_names(fields, dict(given))
    values: dict[str, Any] = {}
    for name, value in given:
        try:
            values[name] = _OF_TEXT[fields[name].schema["type"]](value)
        except ValueError:
            raise UsageError(f"the field {name} must be a number") from None
    return values


_OF_TEXT: dict[str, Callable[[str], Any]] = {"string": str, "integer": int, "number": float}
"""A value of a type in JSON, from how it stands in a query string."""


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
    _check_names(fields, given)
    values: dict[str, Any] = {}
    for name, field in fields.items():
        value = given.get(name)
        if value is None and field.required:
            raise UsageError(f"the field {name} is missing")
        try:
            values[name] = None if value is None else field.accept(value)
        except ValueError as error:
            raise UsageError(f"the field {name} must be {error}") from None
    if "wait_s" in values and values["wait_s"] is None:
        values["wait_s"] = WAIT_S
    return values


def _check_names(fields: Mapping[str, Field], given: Mapping[str, Any]) -> None:
    for name in given:
        if name not in fields:
            raise UsageError(f"there is no field {name[:40]!r} (there is: {', '.join(fields)})")


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


def _status(service: Service, given: Mapping[str, Any]) -> Answer:
    return Answer(HTTPStatus.OK, service.status())


def _runs(service: Service, given: Mapping[str, Any]) -> Answer:
    return Answer(HTTPStatus.OK, service.runs(given["repo"], given["limit"] or _RUNS_DEFAULT))


def _metrics(service: Service, given: Mapping[str, Any]) -> Answer:
    from reposyncd.daemon.metrics import MEDIA_TYPE, exposition  # here, since hardly anybody asks for them

    return Answer(HTTPStatus.OK, exposition(service.status()), media_type=MEDIA_TYPE)


def _repos(service: Service, given: Mapping[str, Any]) -> Answer:
    return Answer(HTTPStatus.OK, {"repos": service.status()["repos"]})


def _health(service: Service, given: Mapping[str, Any]) -> Answer:
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


_TEXT: Schema = {"type": "string", "minLength": 1, "pattern": "^[^\\u0000]+$"}
_PATH: Schema = {"type": "string", "pattern": "^/[^\\u0000]*$"}
_REPO = {"repo": Field(_text, _TEXT)}
_TREE = {"path": Field(_path, _PATH, required=True), "name": Field(_text, _TEXT)}
_WAIT = {"wait_s": Field(_seconds, {"type": "number", "minimum": 0, "maximum": WAIT_MAX_S})}
_LIMIT = {"limit": Field(_count, {"type": "integer", "minimum": 1, "maximum": HITS})}
_FLAG: Schema = {"type": "boolean"}
_HITS_DEFAULT = 5
_RUNS_DEFAULT = 10

_NAME = "{name}"
"""Stands for a segment of the path that is a repo's name."""

_ROUTES: dict[tuple[str, ...], dict[str, Route]] = {
    ("v1", "status"): {"GET": Route("What is kept, and how current it is", "Status", {}, answer=_status)},
    ("v1", "health"): {"GET": Route("Whether all is well", "Health", {}, answer=_health)},
    ("v1", "repos"): {
        "GET": Route("What is kept", "Repos", {}, answer=_repos),
        "POST": Route(
            "Keep a tree from now on", "Repo", _TREE, lambda service, given: service.add(given["path"], given["name"])
        ),
    },
    ("v1", "repos", _NAME): {
        "DELETE": Route(
            "Keep it no longer, and drop its index", "Repo", {}, lambda service, given: service.remove(given["repo"])
        )
    },
    ("v1", "pause"): {
        "POST": Route(
            "Leave a repository, or all, as it is", "Names", _REPO, lambda service, given: service.pause(given["repo"])
        )
    },
    ("v1", "resume"): {
        "POST": Route("Go on after a pause", "Names", _REPO, lambda service, given: service.resume(given["repo"]))
    },
    ("v1", "flush"): {
        "POST": Route(
            "Wait until every change of before is in the index",
            "Flushed",
            _REPO,
            lambda service, given: service.flush(given["repo"]),
        )
    },
    ("v1", "sync"): {
        "POST": Route(
            "Look at a whole tree",
            "SyncResult",
            {**_TREE, "full": Field(_flag, _FLAG)},
            lambda service, given: service.sync(given["path"], given["name"], bool(given["full"])),
        )
    },
    ("v1", "search"): {
        "POST": Route(
            "The chunks nearest to a query, best first",
            "Hits",
            {
                "query": Field(_text, _TEXT, required=True),
                **_LIMIT,
                **_REPO,
            },
            lambda service, given: service.search(given["query"], given["repo"], given["limit"] or _HITS_DEFAULT),
        )
    },
    ("v1", "verify"): {
        "POST": Route(
            "Compare every record with its file, and every file with the index",
            "Verifications",
            {**_REPO, "repair": Field(_flag, _FLAG)},
            lambda service, given: service.verify(given["repo"], bool(given["repair"])),
        )
    },
    ("v1", "runs"): {
        "GET": Route("The last syncs that had something to do, newest first", "Runs", {**_REPO, **_LIMIT}, answer=_runs)
    },
    ("metrics",): {
        "GET": Route("The state in numbers, for Prometheus", "Metrics", {}, answer=_metrics, media_type="text/plain")
    },
    ("openapi.json",): {"GET": Route("This document", "OpenApi", {}, answer=lambda service, given: _openapi())},
}


def document() -> dict[str, Any]:
    """The API as an OpenAPI document."""
    from reposyncd.daemon import openapi  # here, since hardly anybody asks for it

    operations = {
        ("/" + "/".join(segments), method): openapi.Operation(
            route.summary,
            route.gives,
            {name: (field.schema, field.required) for name, field in _fields_of(route).items()},
            waits=route.ask is not None,
            media_type=route.media_type,
            also={503: "Health"} if route.gives == "Health" else {},
        )
        for segments, routes in _ROUTES.items()
        for method, route in routes.items()
    }
    operations[("/v1/tickets/{ticket}", "GET")] = openapi.Operation(
        "What a ticket is for: the answer of whatever was asked",
        "Anything",
        {"wait_s": (_WAIT["wait_s"].schema, False)},
        waits=True,
    )
    return openapi.document(operations)


def _fields_of(route: Route) -> Mapping[str, Field]:
    """All fields that a request may have."""
    return {**route.fields, **_WAIT} if route.ask else route.fields


def _openapi() -> Answer:
    return Answer(HTTPStatus.OK, document())


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
