"""The daemon's API: HTTP/1.1 and JSON over its Unix socket.

An answer that is no error is the JSON that the service gave. Work that is not done within `wait_s` is answered with 202
and a ticket, which `GET /v1/tickets/{ticket}` redeems. Errors are `{"error": {"code", "message"}}`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import unquote_to_bytes

from anyio import CapacityLimiter, to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from reposyncd.app.client import STATE_HEADER
from reposyncd.config import ApiConfig, address_of
from reposyncd.daemon.events import say_unexpected
from reposyncd.daemon.http import tcp
from reposyncd.daemon.http.fields import from_json, from_query, values_of
from reposyncd.daemon.http.responses import Answer, RefusedError, encoded, failure, refused, wrong_method
from reposyncd.daemon.http.routes import WAIT, fields_of, find
from reposyncd.daemon.http.server import GRACE_S, HEAD_BYTES, PEER_CHECKED, Server
from reposyncd.daemon.http.tickets import TicketStore
from reposyncd.daemon.http.unix_socket import identity, listen
from reposyncd.daemon.http.waiting import body_of, ended, in_turn
from reposyncd.daemon.ports import Service, Ticket
from reposyncd.errors import DaemonNotRunningError, ReposyncError, UsageError

REQUEST_S = 15.0
"""How long a client may take to send its request, and then again to take the answer."""

ASKING = 8
"""Requests that are asked of the service at once, a thread each: it may wait for a lock."""

LOOKING = 4
"""The same for those that only look, so that they never wait for the others."""

RESOLVING = 2
"""The same for names of state directories that have to be looked up on the disk: a mount that hangs keeps its thread,
and none of the others."""


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
        self._tickets = TicketStore(time.monotonic)
        self._policy: tcp.AccessPolicy | None = None
        self._address = ""
        """of TCP, "" for none"""
        self._asking = CapacityLimiter(ASKING)
        self._looking = CapacityLimiter(LOOKING)
        self._resolving = CapacityLimiter(RESOLVING)
        self._closing = threading.Lock()
        listening, self._file = listen(path)
        self._server = Server(self._serve, listening, request_s=request_s, refuse=refused, on_death=on_death)

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
            self._tickets.forget(answer.redeems)

    async def _answer(self, request: Request) -> tuple[Answer, bytes]:
        """The answer, and its body as it is sent."""
        try:
            try:
                answer = await self._route(request)
            except RefusedError as refused:
                answer = refused.answer
            except ReposyncError as error:
                answer = failure(error)
            return answer, encoded(answer)
        except ClientDisconnect:
            raise
        except Exception as error:  # the border: whatever the service did wrong, the next request is served
            say_unexpected("the API", error)
            message = "something went wrong inside the daemon that should not; its log has the details"
            answer = RefusedError(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", message).answer
            return answer, encoded(answer)

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
            raise RefusedError(HTTPStatus(refusal.status), refusal.code, refusal.message, headers)

    async def _route(self, request: Request) -> Answer:
        self._check_access(request)
        path, query = request.scope["raw_path"].decode("ascii"), request.scope["query_string"].decode("latin-1")
        if not path.startswith("/"):
            raise RefusedError(HTTPStatus.BAD_REQUEST, "bad_http", "the path does not begin with /")
        if len(path) + len(query) > HEAD_BYTES:  # h11 counts only a head that arrives in parts
            raise RefusedError(HTTPStatus.REQUEST_URI_TOO_LONG, "bad_http", "the path is too long")
        if sum(len(name) + len(value) for name, value in request.headers.raw) > HEAD_BYTES:
            raise RefusedError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "bad_http", "the headers are too long")
        if request.scope["http_version"] not in ("1.0", "1.1"):
            raise RefusedError(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "bad_http", "this is HTTP/1.1")
        await self._check_state(request)
        segments = tuple(path.split("/")[1:])
        if segments[:2] == ("v1", "tickets") and len(segments) == 3:
            if request.method != "GET":
                raise wrong_method(request.method, path, ["GET"])
            wait_s = values_of(WAIT, from_query(query, WAIT))["wait_s"]
            return await self._wait(request, segments[2], self._tickets.find(segments[2]), wait_s)
        methods, name = find(segments, path)
        route = methods.get(request.method)
        if route is None:
            raise wrong_method(request.method, path, methods)
        fields = fields_of(route)
        if query and not fields:
            raise UsageError(f"{path} takes no query string")
        if route.answer:
            values = values_of(fields, from_query(query, fields))
            answer = route.answer
            return await in_turn(request, lambda: answer(self._service, values), self._looking)
        values = values_of(fields, {**from_query(query, WAIT), **from_json(await body_of(request))})
        wait_s = values.pop("wait_s")
        if name is not None:
            values["repo"] = name
        ask = cast(Callable[[Service, dict[str, Any]], Ticket], route.ask)

        def asked() -> tuple[str, Ticket]:
            return self._tickets.add(lambda: ask(self._service, values))

        number, ticket = await in_turn(request, asked, self._asking)
        try:
            return await self._wait(request, number, ticket, wait_s)
        except ClientDisconnect:
            self._tickets.forget(number)  # nobody was told the number
            ticket.abandon()
            raise

    async def _wait(self, request: Request, number: str, ticket: Ticket, wait_s: float) -> Answer:
        """Waits without a thread. Raises ClientDisconnect."""
        await body_of(request)  # what follows it is the end of the connection
        await ended(request, ticket, wait_s)
        if not ticket.wait(0):
            progress = await to_thread.run_sync(ticket.progress, limiter=self._looking)
            return Answer(HTTPStatus.ACCEPTED, {"ticket": number, "progress": progress})
        try:
            return Answer(HTTPStatus.OK, ticket.result(), redeems=number)
        except ReposyncError as error:
            return failure(error)._replace(redeems=number)

    async def _check_state(self, request: Request) -> None:
        """Raises DaemonNotRunningError if another state directory is meant. The disk is asked only where the name is
        another one: it may be that of a mount that hangs."""
        quoted = request.headers.get(STATE_HEADER)
        if quoted is None or (meant := unquote_to_bytes(quoted)) in self._state_names:
            return
        if not meant.startswith(b"/") or b"\0" in meant:
            raise UsageError(f"the header {STATE_HEADER} must be an absolute path, quoted as in a URL")
        await body_of(request)
        meant = await in_turn(request, lambda: os.path.realpath(meant), self._resolving)
        if meant not in self._state_names:
            raise DaemonNotRunningError(
                f"no daemon is running for {os.fsdecode(meant)}: the one that listens keeps {self._state_dir}; "
                "set REPOSYNCD_SOCKET to have one for each"
            )
