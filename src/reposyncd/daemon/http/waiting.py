"""What a request waits for on the event loop: its body, its turn, the end of its work.

Each of these raises ClientDisconnect when the client goes meanwhile, and waits no longer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import TypeVar, cast

from anyio import CancelScope, CapacityLimiter, to_thread
from starlette.requests import ClientDisconnect, Request

from reposyncd.daemon.http.responses import RefusedError
from reposyncd.daemon.ports import Ticket
from reposyncd.errors import OverloadedError

BODY_BYTES = 1_048_576
"""The largest body of a request; the longest query takes a tenth of it, however it is written."""

WAITING = 48
"""Requests that wait for a turn of one kind, at the most. A service that is so far behind does not catch up with more,
and each holds what it asks for."""

_T = TypeVar("_T")


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


_DIGITS = 12
"""Of a length that are looked at: that many are too large in any case."""


async def _gone(request: Request) -> None:
    """Returns when the client is. What it still sends is lost."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def in_turn(request: Request, call: Callable[[], _T], limiter: CapacityLimiter) -> _T:
    """What `call` returns, in a thread, when it is its turn; it is not called for a client that was gone before. The
    request has been read. Raises OverloadedError if too many wait for their turn."""
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


async def ended(request: Request, ticket: Ticket, wait_s: float) -> None:
    """Returns when the ticket has ended, or after that time. The request has been read."""
    loop = asyncio.get_running_loop()
    end = asyncio.Event()

    def wake() -> None:
        with suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(end.set)

    take_back = ticket.on_end(wake)
    waits = [asyncio.create_task(end.wait()), asyncio.create_task(_gone(request))]
    try:
        done, _ = await asyncio.wait(waits, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        if waits[1] in done:
            raise ClientDisconnect
    finally:
        take_back()
        for each in waits:
            each.cancel()
