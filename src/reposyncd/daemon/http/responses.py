"""What requests are answered with: JSON of the service, or an error with its status and its code. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

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
"""Of the nearest base that is named."""

REBUILD_S = 30
"""After how many seconds to ask again for what is being rebuilt, which takes minutes."""


class Answer(NamedTuple):
    """What a request is answered with."""

    status: HTTPStatus
    content: Mapping[str, Any] | bytes
    """what is sent as JSON, or as it is"""
    headers: Mapping[str, str] = {}
    media_type: str = "application/json"
    redeems: str | None = None
    """the ticket that is forgotten when this was delivered"""


class RefusedError(Exception):
    """Raised when a request is not one of this API; carries the answer."""

    def __init__(self, status: HTTPStatus, code: str, message: str, headers: Mapping[str, str] = {}) -> None:
        super().__init__(message)
        self.answer = Answer(status, {"error": {"code": code, "message": message}}, headers)


def encoded(answer: Answer) -> bytes:
    """The body as it is sent. Raises ValueError if it is no JSON."""
    if isinstance(answer.content, bytes):
        return answer.content
    return json.dumps(answer.content, allow_nan=False).encode() + b"\n"


def refused(status: int, message: str) -> bytes:
    """The whole of the answer to what never gets to the application."""
    code = {408: "too_slow", 503: OverloadedError.code}.get(status, "bad_http")
    body = encoded(Answer(HTTPStatus(status), {"error": {"code": code, "message": message}}))
    return (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    ).encode("latin-1") + body


def failure(error: ReposyncError) -> Answer:
    """What work that has failed, or could not be asked for, is answered with."""
    status = next(_STATUS[each] for each in type(error).__mro__ if each in _STATUS)
    headers = {"Retry-After": str(REBUILD_S)} if isinstance(error, RebuildingError) else {}
    return Answer(status, {"error": {"code": error.code, "message": str(error)}}, headers)


def wrong_method(method: str, path: str, allowed: Iterable[str]) -> RefusedError:
    """Of a path that is there, and has these methods."""
    known = ", ".join(allowed)
    message = f"{path} cannot be asked with {method}, but with {known}"
    return RefusedError(HTTPStatus.METHOD_NOT_ALLOWED, "wrong_method", message, {"Allow": known})
