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
from typing import Any, TypeVar, cast
from urllib.parse import unquote_to_bytes

from anyio import CancelScope, CapacityLimiter, to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from reposyncd.client import STATE_HEADER
from reposyncd.config import ApiConfig, address_of
from reposyncd.daemon import tcp
from reposyncd.daemon.fields import from_json, from_query, values_of
from reposyncd.daemon.ledger import Ledger
from reposyncd.daemon.notices import say_unexpected
from reposyncd.daemon.ports import Service, Ticket
from reposyncd.daemon.routes import WAIT, Answer, fields_of, find
from reposyncd.daemon.server import GRACE_S, HEAD_BYTES, PEER_CHECKED, Server
from reposyncd.daemon.unix_socket import identity, listen
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

ASKING = 8
"""Requests that are asked of the service at once, a thread each: it may wait for a lock."""

LOOKING = 4
"""The same for those that only look, so that they never wait for the others."""

RESOLVING = 2
"""The same for names of state directories that have to be looked up on the disk: a mount that hangs keeps its thread,
and none of the others."""

WAITING = 48
"""Requests that wait for one of these threads, at the most. A service that falls so far behind does not catch up with
more of them, and each holds what it asks for."""

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


_T = TypeVar("_T")


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
        self._state_names = {os.fsencode(each) for each in (state_dir, self._state_dir)}
        self._ledger = Ledger(time.monotonic)
        self._policy: tcp.AccessPolicy | None = None
        self._address = ""
        """of TCP, "" for none"""
        self._asking = CapacityLimiter(ASKING)
        self._looking = CapacityLimiter(LOOKING)
        self._resolving = CapacityLimiter(RESOLVING)
        self._closing = threading.Lock()
        listening, self._file = listen(path)
        self._server = Server(self._serve, listening, request_s=request_s, refuse=_refused, on_death=on_death)

    def __enter__(self) -> Api:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def connections(self) -> int:
        """Clients that are connected."""
        return self._server.connections

    @property
    def is_reachable(self) -> bool:
        """Whether the file at its path is still its socket. Where somebody deleted it, or put another in its place,
        nobody who is not connected yet finds this one any more: it has to be closed, and a new one made."""
        return self._file is not None and identity(self._path) == self._file

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
        if self.is_reachable:  # while this still listens, nobody takes the place for free
            with suppress(OSError):
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
        new = tcp.access_policy(config, self._state_dir) if config.listen else None
        if config.listen != self._address:
            self._exchange(config.listen)
        self._policy = new

    def _exchange(self, address: str) -> None:
        """Listens at this address in place of the last one; raises ReposyncError, and listens at that.

        127.0.0.1 and 0.0.0.0 cannot both have a port: the last one is closed before where the new one has its port. Who
        takes the port in between keeps it: nothing listens over TCP then.
        """
        last = self._address
        is_in_the_way = bool(last and address) and address_of(last)[1] == address_of(address)[1]
        if is_in_the_way:
            self._listen_over_tcp("")
        try:
            self._listen_over_tcp(address)
        except ReposyncError:
            if is_in_the_way:
                self._listen_over_tcp(last)
            raise

    def _listen_over_tcp(self, address: str) -> None:
        """At this address alone, "" for none."""
        self._server.listen_also(tcp.listen(address) if address else None)
        self._address = address

    def _check_access(self, request: Request) -> None:
        """Over TCP not everybody is heard."""
        if request.scope["state"].get(PEER_CHECKED) is True:
            return
        refusal = (
            self._policy.refusal(request.headers.get) if self._policy else tcp.Refusal(503, "closed", "not any more")
        )
        if refusal:
            headers = {"WWW-Authenticate": "Bearer"} if refusal.status == HTTPStatus.UNAUTHORIZED else {}
            raise _RefusedError(HTTPStatus(refusal.status), refusal.code, refusal.message, headers)

    async def _route(self, request: Request) -> Answer:
        self._check_access(request)
        path, query = request.scope["raw_path"].decode("ascii"), request.scope["query_string"].decode("latin-1")
        if not path.startswith("/"):
            raise _RefusedError(HTTPStatus.BAD_REQUEST, "bad_http", "the path does not begin with /")
        if len(path) + len(query) > HEAD_BYTES:  # h11 counts only a head that arrives in parts
            raise _RefusedError(HTTPStatus.REQUEST_URI_TOO_LONG, "bad_http", "the path is too long")
        if sum(len(name) + len(value) for name, value in request.headers.raw) > HEAD_BYTES:
            raise _RefusedError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "bad_http", "the headers are too long")
        if request.scope["http_version"] not in ("1.0", "1.1"):
            raise _RefusedError(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "bad_http", "this is HTTP/1.1")
        await self._check_state(request)
        segments = tuple(path.split("/")[1:])
        if segments[:2] == ("v1", "tickets") and len(segments) == 3:
            if request.method != "GET":
                raise _wrong_method(request.method, path, ["GET"])
            wait_s = values_of(WAIT, from_query(query, WAIT))["wait_s"]
            return await self._wait(request, segments[2], self._ledger.find(segments[2]), wait_s)
        methods, name = find(segments, path)
        route = methods.get(request.method)
        if route is None:
            raise _wrong_method(request.method, path, methods)
        fields = fields_of(route)
        if query and not fields:
            raise UsageError(f"{path} takes no query string")
        if route.answer:
            values = values_of(fields, from_query(query, fields))
            answer = route.answer
            return await _in_turn(request, lambda: answer(self._service, values), self._looking)
        values = values_of(fields, {**from_query(query, WAIT), **from_json(await _body(request))})
        wait_s = values.pop("wait_s")
        if name is not None:
            values["repo"] = name
        ask = cast(Callable[[Service, dict[str, Any]], Ticket], route.ask)

        def asked() -> tuple[str, Ticket]:
            return self._ledger.add(lambda: ask(self._service, values))

        number, ticket = await _in_turn(request, asked, self._asking)
        try:
            return await self._wait(request, number, ticket, wait_s)
        except ClientDisconnect:
            self._ledger.forget(number)  # nobody was told the number
            ticket.abandon()
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

    async def _check_state(self, request: Request) -> None:
        """Raises DaemonNotRunningError if another state directory is meant. The disk is asked only where the name is
        another one: it may be that of a mount that hangs."""
        quoted = request.headers.get(STATE_HEADER)
        if quoted is None or (meant := unquote_to_bytes(quoted)) in self._state_names:
            return
        if not meant.startswith(b"/") or b"\0" in meant:
            raise UsageError(f"the header {STATE_HEADER} must be an absolute path, quoted as in a URL")
        await _body(request)
        meant = await _in_turn(request, lambda: os.path.realpath(meant), self._resolving)
        if meant not in self._state_names:
            raise DaemonNotRunningError(
                f"no daemon is running for {os.fsdecode(meant)}: the one that listens keeps {self._state_dir}; "
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


async def _gone(request: Request) -> None:
    """Returns when the client is. What it still sends is lost."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _in_turn(request: Request, call: Callable[[], _T], limiter: CapacityLimiter) -> _T:
    """What `call` returns, in a thread, when it is its turn. The request has been read.

    Raises OverloadedError if too many wait for theirs, and ClientDisconnect if the client was gone before it came.
    """
    if limiter.statistics().tasks_waiting >= WAITING:
        raise OverloadedError(f"{WAITING} requests wait for their turn; try again when some are done")
    gone = asyncio.create_task(_gone(request))

    def unless_gone() -> _T:
        if gone.done():
            raise ClientDisconnect
        return call()

    with CancelScope() as turn:  # a thread that has begun is waited for all the same
        gone.add_done_callback(lambda _: turn.cancel())
        try:
            return await to_thread.run_sync(unless_gone, limiter=limiter)
        finally:
            gone.cancel()
    raise ClientDisconnect


async def _ended(request: Request, ticket: Ticket, wait_s: float) -> None:
    """Returns when the ticket has ended, or after that time. Raises ClientDisconnect."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def wake() -> None:
        with suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(ended.set)

    take_back = ticket.on_end(wake)
    waits = [asyncio.create_task(ended.wait()), asyncio.create_task(_gone(request))]
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
