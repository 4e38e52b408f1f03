"""Serves an ASGI application at listening sockets: uvicorn's protocol on an event loop in its own thread.

uvicorn's Server is not used: its main loop wakes up ten times a second, and it handles the signals of the process. The
parts of uvicorn that are used here are private, so its minor version is pinned.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from reposyncd.app.client import peer_uid
from reposyncd.daemon.events import log_unexpected
from reposyncd.errors import ReposyncError

CONNECTIONS = 64
"""The largest number of connections to one listening socket. The limits are separate, so that the clients of one socket
cannot block those of the other. A person with some editors and shells needs a handful."""

HEAD_BYTES = 65_536
"""The largest size of the request line and the headers together, in bytes: what http.client allows for one header."""

GRACE_S = 1.0
"""After a close, how many seconds the requests that are being answered may take to finish."""

PEER_CHECKED = "peer_checked"
"""A key in the state of a request's scope: true if the request came over the first socket, whose peers are checked."""

_ALSO_S = 5.0
"""How many seconds the thread may take to listen at another socket. It needs a millisecond."""

_END_S = 0.5
"""How many seconds the thread may take to end after all connections were closed. A thread that takes longer ends with
the process."""

Refusal = Callable[[int, str], bytes]
"""Makes a complete HTTP answer, from a status and a message, to a request that does not reach the application."""


class Server:
    """Calls the ASGI application `app` in the thread "api" for each request at `listening`, until it is closed.

    A connection carries one request. Connections of other users are closed without an answer. Connections over the
    limit get 503, and requests that have not arrived after `request_s` seconds get 408. If the client does not read the
    answer in that time, the connection is closed. Each of the two sockets, the first one and the one passed to
    `listen_also`, has its own limit. While there are no requests, nothing wakes up. `on_death` is called in the thread
    if it ends without a call of `close`.
    """

    def __init__(
        self,
        app: Any,
        listening: socket.socket,
        *,
        request_s: float,
        refusal: Refusal,
        on_death: Callable[[BaseException], None],
    ) -> None:
        self.request_s = request_s
        self.refusal = refusal
        self._listening = listening
        self._on_death = on_death
        self._config = Config(
            app,
            http=_Connection,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level=logging.CRITICAL,  # errors of clients are not logged; the application logs its own errors
            access_log=False,
            proxy_headers=False,
            h11_max_incomplete_event_size=HEAD_BYTES,
        )
        self._config.load()
        self._state, self._other_state = self._states = (_State(self), _State(self))
        self._other: asyncio.Server | None = None
        self._is_closing = False
        self._has_begun = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(_log_error)
        self.thread = threading.Thread(target=self._run, name="api", daemon=True)
        self.thread.start()
        self._has_begun.wait()

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._connected)

    @property
    def _connected(self) -> list[Any]:
        return [each for state in self._states for each in state.connections]

    def listen_also(self, listening: socket.socket | None) -> None:
        """Also listens at this socket, instead of the previous one passed here; None: at none. For any other thread.
        Raises ReposyncError if the thread does not answer."""
        coroutine = self._listen_also(listening)
        try:
            asked = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        except RuntimeError as error:  # the loop is closed
            coroutine.close()
            if listening:
                listening.close()
            raise ReposyncError("the API's thread does not answer") from error
        try:
            asked.result(_ALSO_S)
        except TimeoutError as error:
            asked.cancel()
            if listening:
                listening.close()
            raise ReposyncError("the API's thread does not answer") from error

    async def _listen_also(self, listening: socket.socket | None) -> None:
        if self._other:
            self._other.close()
            self._other = None
        if listening:
            self._other = await self._loop.create_server(
                lambda: _Connection(self._config, self._other_state, {}, self._loop), sock=listening
            )

    def ping(self, timeout_s: float) -> bool:
        """Whether the event loop answers within this time. For any other thread."""
        answered = threading.Event()
        try:
            self._loop.call_soon_threadsafe(answered.set)
        except RuntimeError:  # the loop is closed
            return False
        return answered.wait(timeout_s)

    def close(self, grace_s: float = GRACE_S) -> None:
        """Accepts no more requests. Those that are being answered have `grace_s` seconds, and are then cancelled.

        May be called again. For any other thread.
        """
        self._is_closing = True
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._begin_close, grace_s)
        self.thread.join(grace_s + _END_S)

    def _begin_close(self, grace_s: float) -> None:
        if not self._end.done():
            self._end.set_result(grace_s)

    def _run(self) -> None:
        try:
            try:
                self._end: asyncio.Future[float] = self._loop.create_future()
                self._loop.run_until_complete(self._serve())
            finally:
                try:
                    self._listening.close()
                    self._cut_all()
                finally:
                    self._loop.close()
                    self._has_begun.set()
        except BaseException as error:  # whatever it is, the supervisor must know about it
            if not self._is_closing:
                self._on_death(error)

    async def _serve(self) -> None:
        server = await self._loop.create_server(
            lambda: _Connection(self._config, self._state, {PEER_CHECKED: True}, self._loop), sock=self._listening
        )
        self._has_begun.set()
        grace_s = await self._end
        server.close()
        await self._listen_also(None)
        for each in self._connected:
            each.shutdown()
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                for state in self._states:
                    await state.all_disconnected()

    def _cut_all(self) -> None:
        """Closes every connection, and cancels every task that is answering one."""
        for each in self._connected:
            each.transport.abort()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.run_until_complete(asyncio.sleep(0))  # the transports close their sockets


class _State(ServerState):
    """What the connections to one listening socket share. Only the thread of the event loop uses it."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self.server = server
        self.default_headers = [(b"connection", b"close")]
        self._all_disconnected: asyncio.Future[None] | None = None

    async def all_disconnected(self) -> None:
        """Returns when no client is connected."""
        self._all_disconnected = asyncio.get_running_loop().create_future()
        self.note_disconnect()
        await self._all_disconnected

    def note_disconnect(self) -> None:
        """Called when a client may have disconnected."""
        if self._all_disconnected and not self._all_disconnected.done() and not self.connections:
            self._all_disconnected.set_result(None)


class _Connection(H11Protocol):
    """A connection with limits that uvicorn does not have: on users, on the number of connections, and on time."""

    server_state: _State
    _timer: asyncio.TimerHandle | None = None
    """closes a connection that takes too long"""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        server = self.server_state.server
        self.transport = transport
        connection = transport.get_extra_info("socket")
        if connection.family == socket.AF_UNIX and peer_uid(connection) != os.geteuid():
            transport.abort()
            return
        if len(self.connections) >= CONNECTIONS:
            self._is_refused = True
            self._refuse(503, f"{CONNECTIONS} clients are connected; try again when some of them are done")
            return
        super().connection_made(transport)
        self._timer = self.loop.call_later(server.request_s, self._late)

    _is_refused = False

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        super().data_received(data)
        if self._timer and self.cycle and not self.cycle.more_body and not self.cycle.response_complete:
            self._timer.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer:
            self._timer.cancel()
        super().connection_lost(exc)
        self.server_state.note_disconnect()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._timer:
            self._timer.cancel()
        self._timer = self.loop.call_later(self.server_state.server.request_s, self.transport.abort)

    def send_400_response(self, msg: str) -> None:
        """Answers a request that is not HTTP. Called while h11's error is being handled, which has the status."""
        error = sys.exc_info()[1]
        status = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        self._refuse(status, str(error or msg))

    def shutdown(self) -> None:
        """Closes a connection whose request has not arrived completely, without an answer."""
        if self.cycle and self.cycle.more_body and not self.cycle.response_started:
            self.transport.abort()
        else:
            super().shutdown()

    def _late(self) -> None:
        self._refuse(408, f"the request did not arrive within {self.server_state.server.request_s:g} s")

    def _refuse(self, status: int, message: str) -> None:
        """Answers instead of the application, unless that has begun to answer, and closes the connection."""
        if self._timer:
            self._timer.cancel()
        if not (self.cycle and self.cycle.response_started):
            self.transport.write(self.server_state.server.refusal(status, message))
        if self.cycle:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()
        self._timer = self.loop.call_later(self.server_state.server.request_s, self.transport.abort)


def _log_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Logs an error of the event loop without values, which asyncio's own message would contain."""
    log_unexpected("the API", context.get("exception") or RuntimeError())
