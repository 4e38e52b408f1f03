"""Serves an ASGI application over sockets that listen already: uvicorn's protocol on an event loop of its own thread.

uvicorn's Server is not used: its main loop wakes up ten times a second, and it takes the process's signals. What is
used of uvicorn here is private to it, so its version is pinned to a minor.
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
from reposyncd.daemon.events import say_unexpected
from reposyncd.errors import ReposyncError

CONNECTIONS = 64
"""Served at once, of each listener: whoever fills one of them keeps nobody from the other. A person with some editors
and shells has a handful."""

HEAD_BYTES = 65_536
"""Of the request line and the headers together, as of every header in http.client."""

GRACE_S = 1.0
"""How long a request that is being answered may go on after the close."""

PEER_CHECKED = "peer_checked"
"""In the state of a request's scope: true if it came by the first socket, whose peers were checked."""

_ALSO_S = 5.0
"""How long the thread may take to begin to listen at another socket; it takes a millisecond."""

_END_S = 0.5
"""How long the thread may take to end after everything was cut off; it is left then, and ends with the process."""

Refuse = Callable[[int, str], bytes]
"""Makes the whole HTTP answer of what never gets to the application, from its status and what is wrong."""


class Server:
    """Calls the ASGI application `app` in the thread "api" for each request at `listening`, until it is closed.

    One request a connection. Those of other users are closed unheard, those over the limit are refused with 503, a
    request that is not there after `request_s` with 408; an answer that is not read after as long is cut off. The first
    socket and the other one (`listen_also`) have a limit each. While nobody asks, nothing wakes up. `on_death` is
    called in the thread when it ends without having been told to.
    """

    def __init__(
        self,
        app: Any,
        listening: socket.socket,
        *,
        request_s: float,
        refuse: Refuse,
        on_death: Callable[[BaseException], None],
    ) -> None:
        self.request_s = request_s
        self.refuse = refuse
        self._listening = listening
        self._on_death = on_death
        self._config = Config(
            app,
            http=_Connection,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level=logging.CRITICAL,  # what a client does wrong is its own affair; the application tells of ours
            access_log=False,
            proxy_headers=False,
            h11_max_incomplete_event_size=HEAD_BYTES,
        )
        self._config.load()
        self._state, self._other_state = self._states = (_State(self), _State(self))
        self._other: asyncio.Server | None = None
        self._is_told = False
        self._began = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(_say)
        self.thread = threading.Thread(target=self._run, name="api", daemon=True)
        self.thread.start()
        self._began.wait()

    @property
    def connections(self) -> int:
        """Clients that are connected."""
        return len(self._connected)

    @property
    def _connected(self) -> list[Any]:
        return [each for state in self._states for each in state.connections]

    def listen_also(self, listening: socket.socket | None) -> None:
        """At this socket too from now on, in place of the last such; None: at none. From another thread. Raises
        ReposyncError if the thread does not come by."""
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
        """Whether the event loop comes by within that time. For any other thread."""
        came_by = threading.Event()
        try:
            self._loop.call_soon_threadsafe(came_by.set)
        except RuntimeError:  # the loop is closed
            return False
        return came_by.wait(timeout_s)

    def close(self, grace_s: float = GRACE_S) -> None:
        """Ends at once for who is yet to ask; what is being answered may end within `grace_s` and is cut off then.

        May be called again, and from any other thread.
        """
        self._is_told = True
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._tell, grace_s)
        self.thread.join(grace_s + _END_S)

    def _tell(self, grace_s: float) -> None:
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
                    self._began.set()
        except BaseException as error:  # the border of the thread: it is told of, whatever it is
            if not self._is_told:
                self._on_death(error)

    async def _serve(self) -> None:
        server = await self._loop.create_server(
            lambda: _Connection(self._config, self._state, {PEER_CHECKED: True}, self._loop), sock=self._listening
        )
        self._began.set()
        grace_s = await self._end
        server.close()
        await self._listen_also(None)
        for each in self._connected:
            each.shutdown()
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                for state in self._states:
                    await state.all_gone()

    def _cut_all(self) -> None:
        """Nothing is left of the connections and of what answers them."""
        for each in self._connected:
            each.transport.abort()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.run_until_complete(asyncio.sleep(0))  # the transports close their sockets


class _State(ServerState):
    """What the connections of one listener share. Of the event loop's thread."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self.server = server
        self.default_headers = [(b"connection", b"close")]
        self._gone: asyncio.Future[None] | None = None

    async def all_gone(self) -> None:
        """Returns when nobody is connected."""
        self._gone = asyncio.get_running_loop().create_future()
        self.look()
        await self._gone

    def look(self) -> None:
        """Somebody is gone."""
        if self._gone and not self._gone.done() and not self.connections:
            self._gone.set_result(None)


class _Connection(H11Protocol):
    """A connection, with limits that uvicorn has not: of users, of their number, and of time."""

    server_state: _State
    _limit: asyncio.TimerHandle | None = None
    """ends what takes too long"""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        server = self.server_state.server
        self.transport = transport
        connection = transport.get_extra_info("socket")
        if connection.family == socket.AF_UNIX and peer_uid(connection) != os.geteuid():
            transport.abort()
            return
        if len(self.connections) >= CONNECTIONS:
            self._is_refused = True
            self._refuse(503, f"{CONNECTIONS} requests are being answered; try again when some are done")
            return
        super().connection_made(transport)
        self._limit = self.loop.call_later(server.request_s, self._late)

    _is_refused = False

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        super().data_received(data)
        if self._limit and self.cycle and not self.cycle.more_body and not self.cycle.response_complete:
            self._limit.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._limit:
            self._limit.cancel()
        super().connection_lost(exc)
        self.server_state.look()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._limit:
            self._limit.cancel()
        self._limit = self.loop.call_later(self.server_state.server.request_s, self.transport.abort)

    def send_400_response(self, msg: str) -> None:
        """Answers what is no HTTP; called while h11's error is handled, which knows the status."""
        error = sys.exc_info()[1]
        status = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        self._refuse(status, str(error or msg))

    def shutdown(self) -> None:
        """What was not asked in full is not answered any more."""
        if self.cycle and self.cycle.more_body and not self.cycle.response_started:
            self.transport.abort()
        else:
            super().shutdown()

    def _late(self) -> None:
        self._refuse(408, f"the request was not there after {self.server_state.server.request_s:g} s")

    def _refuse(self, status: int, message: str) -> None:
        """Answers in place of the application, unless that has begun to, and ends the connection."""
        if self._limit:
            self._limit.cancel()
        if not (self.cycle and self.cycle.response_started):
            self.transport.write(self.server_state.server.refuse(status, message))
        if self.cycle:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()
        self._limit = self.loop.call_later(self.server_state.server.request_s, self.transport.abort)


def _say(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What asyncio would log, with values: a line of ours instead."""
    say_unexpected("the API", context.get("exception") or RuntimeError())
