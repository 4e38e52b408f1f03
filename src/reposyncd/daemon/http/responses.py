"""The answers of the API: JSON from the service, or an error with its status and its code. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import NamedTuple

from reposyncd.errors import (
    BusyError,
    DaemonNotRunningError,
    InterruptedSyncError,
    NotFoundError,
    OverloadedError,
    RebuildingError,
    ReposyncError,
    RootMissingError,
    StoreError,
    UsageError,
)

_STATUS: dict[type[ReposyncError], HTTPStatus] = {
    ReposyncError: HTTPStatus.INTERNAL_SERVER_ERROR,
    UsageError: HTTPStatus.BAD_REQUEST,
    NotFoundError: HTTPStatus.NOT_FOUND,
    RootMissingError: HTTPStatus.NOT_FOUND,
    BusyError: HTTPStatus.CONFLICT,
    OverloadedError: HTTPStatus.SERVICE_UNAVAILABLE,
    RebuildingError: HTTPStatus.SERVICE_UNAVAILABLE,
    StoreError: HTTPStatus.SERVICE_UNAVAILABLE,
    InterruptedSyncError: HTTPStatus.SERVICE_UNAVAILABLE,
    DaemonNotRunningError: HTTPStatus.MISDIRECTED_REQUEST,
}
"""The status of an error is that of its nearest base class in this table."""

REBUILD_S = 30
"""After how many seconds a client may ask again for an index that is being rebuilt. A rebuild takes minutes."""


class HttpAnswer(NamedTuple):
    """The answer to a request."""

    status: HTTPStatus
    content: Mapping[str, object] | bytes
    """a JSON object, or the bytes to send"""
    headers: Mapping[str, str] = {}
    media_type: str = "application/json"
    redeems: str | None = None
    """the ticket to forget once this answer was delivered"""


class RefusedError(Exception):
    """Raised when a request does not belong to this API. Carries the answer."""

    def __init__(self, status: HTTPStatus, code: str, message: str, headers: Mapping[str, str] = {}) -> None:
        super().__init__(message)
        self.answer = refused(status, code, message, headers)


def refused(status: HTTPStatus, code: str, message: str, headers: Mapping[str, str] = {}) -> HttpAnswer:
    """An answer that says what is wrong."""
    return HttpAnswer(status, {"error": {"code": code, "message": message}}, headers)


def encoded(answer: HttpAnswer) -> bytes:
    """The body as it is sent. Raises ValueError if it is not valid JSON."""
    if isinstance(answer.content, bytes):
        return answer.content
    return json.dumps(answer.content, allow_nan=False).encode() + b"\n"


def raw_refusal(status: int, message: str) -> bytes:
    """A complete HTTP answer to a client whose request does not reach the application."""
    code = {408: "too_slow", 503: OverloadedError.code}.get(status, "bad_http")
    body = encoded(refused(HTTPStatus(status), code, message))
    return (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    ).encode("latin-1") + body


def failure(error: ReposyncError) -> HttpAnswer:
    """The answer to a request that could not be started, or whose work has failed."""
    status = next(_STATUS[each] for each in type(error).__mro__ if each in _STATUS)
    headers = {"Retry-After": str(REBUILD_S)} if isinstance(error, RebuildingError) else {}
    return refused(status, error.code, str(error), headers)


def wrong_method(method: str, path: str, allowed: Iterable[str]) -> RefusedError:
    """The error for a path that exists, but not with this method."""
    known = ", ".join(allowed)
    message = f"{path} does not support {method}; use {known}"
    return RefusedError(HTTPStatus.METHOD_NOT_ALLOWED, "wrong_method", message, {"Allow": known})
