"""Requests to the API as bytes, and what is answered."""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from typing import Any

from reposyncd.app.client import connect

LONG_S = 60.0
"""A time-out that only a test which is about to fail reaches."""


def send(path: str, content: bytes) -> tuple[int, dict[str, Any], bytes]:
    """What is answered to these bytes: status, JSON, head."""
    with connect(path) as connection:
        connection.settimeout(LONG_S)
        with suppress(BrokenPipeError):  # it has answered without reading all
            connection.sendall(content)
        return receive(connection)


def receive(connection: socket.socket) -> tuple[int, dict[str, Any], bytes]:
    received = b""
    try:
        while part := connection.recv(65536):
            received += part
    except ConnectionResetError:
        pass
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body) if body else {}, head


def ask(path: str, method: str, target: str, body: object = None) -> tuple[int, dict[str, Any]]:
    content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n".encode()
    status, answer, _ = send(path, head + content)
    return status, answer
