"""Answers one request: checks who sent it and what it asks for.

The body of an answer is the JSON that the service returned. If work is not done within `wait_s`, the answer is 202 with
a ticket; `GET /v1/tickets/{ticket}` returns the result. An error is `{"error": {"code", "message"}}`.
"""

from __future__ import annotations

import os
import time
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote_to_bytes

from anyio import CapacityLimiter, to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from reposyncd.app.client import STATE_HEADER
from reposyncd.daemon.events import internal_error, log_unexpected
from reposyncd.daemon.http.access import AccessPolicy, Refusal
from reposyncd.daemon.http.operations import LookupOperation, Operation, WorkOperation
from reposyncd.daemon.http.responses import HttpAnswer, RefusedError, encoded, failure, refused, wrong_method
from reposyncd.daemon.http.routes import find
from reposyncd.daemon.http.schemas import TicketRequest, WorkRequest, from_json, from_query, parse
from reposyncd.daemon.http.server import HEAD_BYTES, PEER_CHECKED
from reposyncd.daemon.http.tickets import TicketStore
from reposyncd.daemon.http.waiting import body_of, ended, in_turn
from reposyncd.daemon.ports import Service, ServiceTask
from reposyncd.errors import DaemonNotRunningError, ReposyncError, UsageError

STARTING = 8
"""How many threads start work at the same time. Each may have to wait for a lock of the service."""

LOOKING_UP = 4
"""How many threads look something up at the same time. They are separate, so that a lookup never waits for work."""

RESOLVING = 2
"""How many threads resolve paths of state directories at the same time. A mount that hangs blocks such a thread, but
none of the others."""


class Dispatcher:
    """An ASGI application that answers requests through `service`.

    Refuses requests that name another state directory than `state_dir`. Refuses requests over TCP until `set_access`
    allows some.
    """

    def __init__(self, service: Service, state_dir: str) -> None:
        self._service = service
        self._state_dir = os.path.realpath(state_dir)
        self._state_names = {os.fsencode(each) for each in (state_dir, self._state_dir)}
        self._access: AccessPolicy | None = None
        self.tickets = TicketStore(time.monotonic)
        self.starting = CapacityLimiter(STARTING)
        self._looking_up = CapacityLimiter(LOOKING_UP)
        self._resolving = CapacityLimiter(RESOLVING)

    def set_access(self, policy: AccessPolicy | None) -> None:
        """Sets which requests over TCP are answered from now on; None: none. From any thread."""
        self._access = policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        request = Request(scope, receive)
        try:
            answer, content = await self._answer(request)
        except ClientDisconnect:
            return
        await Response(content, answer.status, {**answer.headers}, answer.media_type)(scope, receive, send)
        if answer.redeems:
            self.tickets.forget(answer.redeems)

    async def _answer(self, request: Request) -> tuple[HttpAnswer, bytes]:
        """The answer, and its body as it is sent. Raises ClientDisconnect."""
        try:
            try:
                answer = await self._dispatch(request)
            except RefusedError as error:
                answer = error.answer
            except ReposyncError as error:
                answer = failure(error)
            return answer, encoded(answer)
        except ClientDisconnect:
            raise
        except Exception as error:  # whatever went wrong, the next request must be answered
            log_unexpected("the API", error)
            answer = refused(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", str(internal_error("the API")))
            return answer, encoded(answer)

    async def _dispatch(self, request: Request) -> HttpAnswer:
        self._check_access(request)
        path, query = request.scope["raw_path"].decode("ascii"), request.scope["query_string"].decode("latin-1")
        _check_http(request, path, query)
        await self._check_state(request)
        methods, in_path = find(path)
        operation = methods.get(request.method)
        if operation is None:
            raise wrong_method(request.method, path, methods)
        if isinstance(operation, WorkOperation):
            return await self._start(request, operation, query, in_path)
        if query and not operation.request.__struct_fields__:
            raise UsageError(f"{path} takes no query string")
        asked = parse(operation.request, from_query(query, operation.request), in_path)
        if isinstance(operation, LookupOperation):
            answer = operation.find
            return await in_turn(request, lambda: answer(self._service, asked), self._looking_up)
        return await self._redeem(request, operation, asked)

    async def _start(
        self, request: Request, operation: WorkOperation[Any, Any], query: str, in_path: dict[str, str]
    ) -> HttpAnswer:
        given = {**from_query(query, WorkRequest), **from_json(await body_of(request))}
        asked: WorkRequest = parse(operation.request, given, in_path)

        def start() -> tuple[str, ServiceTask[Any]]:
            return self.tickets.add(lambda: operation.start(self._service, asked))

        number, task = await in_turn(request, start, self.starting)
        try:
            return await self._wait(request, number, task, asked.wait_s)
        except ClientDisconnect:
            self.tickets.forget(number)  # the client has not received it
            task.abandon()
            raise

    async def _redeem(self, request: Request, operation: Operation[Any, Any], asked: TicketRequest) -> HttpAnswer:
        return await self._wait(request, asked.ticket, self.tickets.find(asked.ticket), asked.wait_s)

    async def _wait(self, request: Request, number: str, task: ServiceTask[Any], wait_s: float) -> HttpAnswer:
        """Waits for the task without blocking a thread. Raises ClientDisconnect."""
        await body_of(request)  # so that what is read after this can only be the end of the connection
        await ended(request, task, wait_s)
        if not task.wait(0):
            progress = await to_thread.run_sync(task.progress, limiter=self._looking_up)
            return HttpAnswer(HTTPStatus.ACCEPTED, {"ticket": number, "progress": progress})
        try:
            return HttpAnswer(HTTPStatus.OK, task.result(), redeems=number)
        except ReposyncError as error:
            return failure(error)._replace(redeems=number)

    def _check_access(self, request: Request) -> None:
        """Raises RefusedError if the request came over TCP and is not allowed."""
        if request.scope["state"].get(PEER_CHECKED) is True:
            return
        closed = Refusal(503, "closed", "the service does not listen over TCP any more")
        refusal = self._access.refusal(request.headers.get) if self._access else closed
        if refusal:
            headers = {"WWW-Authenticate": "Bearer"} if refusal.status == HTTPStatus.UNAUTHORIZED else {}
            raise RefusedError(HTTPStatus(refusal.status), refusal.code, refusal.message, headers)

    async def _check_state(self, request: Request) -> None:
        """Raises DaemonNotRunningError if the request names another state directory. Reads the disk only for a new
        name, which may be on a mount that hangs."""
        quoted = request.headers.get(STATE_HEADER)
        if quoted is None or (named := unquote_to_bytes(quoted)) in self._state_names:
            return
        if not named.startswith(b"/") or b"\0" in named:
            raise UsageError(f"the header {STATE_HEADER} must be an absolute path, quoted as in a URL")
        await body_of(request)
        resolved = await in_turn(request, lambda: os.path.realpath(named), self._resolving)
        if resolved not in self._state_names:
            raise DaemonNotRunningError(
                f"no service is running for {os.fsdecode(resolved)}: the one at this socket uses {self._state_dir}; "
                "set REPOSYNCD_SOCKET to run one for each"
            )


def _check_http(request: Request, path: str, query: str) -> None:
    """Raises RefusedError for requests that h11 accepts, but this API does not."""
    if not path.startswith("/"):
        raise RefusedError(HTTPStatus.BAD_REQUEST, "bad_http", "the path does not begin with /")
    if len(path) + len(query) > HEAD_BYTES:  # h11 only checks a head that arrives in several parts
        raise RefusedError(HTTPStatus.REQUEST_URI_TOO_LONG, "bad_http", "the path is too long")
    if sum(len(name) + len(value) for name, value in request.headers.raw) > HEAD_BYTES:
        raise RefusedError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "bad_http", "the headers are too long")
    if request.scope["http_version"] not in ("1.0", "1.1"):
        raise RefusedError(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "bad_http", "only HTTP/1.1 is supported")
