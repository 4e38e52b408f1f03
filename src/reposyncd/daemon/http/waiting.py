"""What a request waits for on the event loop: its body, its turn, and the end of its task.

Each function raises ClientDisconnect, and stops waiting, when the client disconnects.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Any, TypeVar, cast

from anyio import CancelScope, CapacityLimiter, to_thread
from starlette.requests import ClientDisconnect, Request

from reposyncd.daemon.http.responses import RefusedError
from reposyncd.daemon.ports import ServiceTask
from reposyncd.errors import OverloadedError

BODY_BYTES = 1_048_576
"""The largest body of a request, in bytes. The longest query needs a tenth of that, in any encoding."""

WAITING = 48
"""The largest number of requests of one kind that wait for their turn. A service that is so far behind could not catch
up with more, and each of them keeps its body in memory."""

_T = TypeVar("_T")

_DIGITS = 12
"""How many digits of a Content-Length are read. A number with so many digits is too large anyway."""


async def body_of(request: Request) -> bytes:
    """The body. Raises RefusedError if it is too large."""
    too_large = RefusedError(
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


async def _disconnected(request: Request) -> None:
    """Returns when the client disconnects. Discards what the client still sends."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def in_turn(request: Request, call: Callable[[], _T], limiter: CapacityLimiter) -> _T:
    """Calls `call` in a thread when it is its turn, and returns its result. Does not call it if the client disconnects
    before that. The body must have been read. Raises OverloadedError if too many requests wait for their turn."""
    if limiter.statistics().tasks_waiting >= WAITING:
        raise OverloadedError(f"{WAITING} requests are waiting for their turn; try again when some of them are done")
    disconnected = asyncio.create_task(_disconnected(request))

    def unless_disconnected() -> _T:
        if disconnected.done():
            raise ClientDisconnect
        return call()

    with CancelScope() as turn:  # once the call has begun, it is waited for in any case
        disconnected.add_done_callback(lambda _: turn.cancel())
        try:
            return await to_thread.run_sync(unless_disconnected, limiter=limiter)
        finally:
            disconnected.cancel()
    raise ClientDisconnect


async def ended(request: Request, task: ServiceTask[Any], wait_s: float) -> None:
    """Returns when the task has ended, or after this time. The body must have been read."""
    loop = asyncio.get_running_loop()
    end = asyncio.Event()

    def wake() -> None:
        with suppress(RuntimeError):  # the loop was closed in the meantime
            loop.call_soon_threadsafe(end.set)

    cancel_callback = task.on_end(wake)
    waits = [asyncio.create_task(end.wait()), asyncio.create_task(_disconnected(request))]
    try:
        done, _ = await asyncio.wait(waits, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        if waits[1] in done:
            raise ClientDisconnect
    finally:
        cancel_callback()
        for each in waits:
            each.cancel()
