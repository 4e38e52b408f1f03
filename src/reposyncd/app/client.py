"""A client of the service: HTTP over its Unix socket.

It uses only the standard library, and little of that, because every command pays for these imports. If the file of the
socket does not exist, not even `socket` is imported.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from reposyncd.errors import (
    DaemonLostError,
    DaemonNotRunningError,
    NoTicketError,
    OverloadedError,
    ReposyncError,
    TimedOutError,
    by_code,
)

if TYPE_CHECKING:
    from socket import socket as Socket

STATE_HEADER = "Reposyncd-State"
"""The header that names the state directory, quoted like a path in a URL. A service with another one refuses."""

ADDRESS_BYTES = 107
"""The longest path in the address of a Unix socket: sun_path has 108 bytes, including the final NUL (unix(7))."""

_WAIT_S = 20.0
"""How long the service may hold a request while the work is not done. Then the client asks again."""

_PROGRESS_S = 0.5
"""The same, if progress is shown."""

_SILENCE_S = 30.0
"""If the service answers this much later than requested, it counts as lost. On a busy machine, it may take seconds."""

_CONNECT_S = 5.0

_PART_BYTES = 65_536


class Client:
    """Sends requests to the service that listens at `path`; with `state_dir`, only to one with that state directory.

    Each request has its own connection, so threads may share a client.
    """

    def __init__(self, path: str, state_dir: str | None = None) -> None:
        self._path = path
        self._state_dir = state_dir

    def request(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        on_progress: Callable[[Any], None] | None = None,
        timeout_s: float | None = None,
    ) -> dict[str, Any]:
        """The answer of the service. Waits until the work is done.

        In the meantime, `on_progress` is called in this thread with a `messages.TaskProgress`, about every half second.
        Raises DaemonNotRunningError if nothing was begun; TimedOutError after `timeout_s`, while the work continues;
        DaemonLostError; and the ReposyncError that the work failed with.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s

        def wait_s() -> float:
            longest = _WAIT_S if on_progress is None else _PROGRESS_S
            return longest if deadline is None else max(0.0, min(longest, deadline - time.monotonic()))

        if method == "GET":
            status, answer = self._ask(method, path, None, min(_SILENCE_S, timeout_s or _SILENCE_S))
        elif method == "DELETE":
            status, answer = self._ask(method, f"{path}?wait_s={wait_s():.3f}", None, _WAIT_S + _SILENCE_S)
        else:
            status, answer = self._ask(method, path, {**(body or {}), "wait_s": wait_s()}, _WAIT_S + _SILENCE_S)
        while status == 202:  # Accepted: a ticket and the progress
            if on_progress:
                on_progress(answer["progress"])
            if deadline is not None and time.monotonic() >= deadline:
                raise TimedOutError(f"timed out after {timeout_s:g} s; the service continues with it")
            status, answer = self._poll_ticket(answer["ticket"], wait_s())
        return answer

    def running(self) -> bool:
        """Whether a service answers at the socket."""
        return running(self._path)

    def _poll_ticket(self, ticket: str, wait_s: float) -> tuple[int, dict[str, Any]]:
        try:
            return self._ask("GET", f"/v1/tickets/{ticket}?wait_s={wait_s:.3f}", None, wait_s + _SILENCE_S)
        except DaemonNotRunningError as error:
            raise DaemonLostError("the service ended before the work was done") from error
        except NoTicketError as error:
            raise DaemonLostError("the service was restarted before the work was done; try again") from error

    def _ask(self, method: str, target: str, body: dict[str, Any] | None, limit_s: float) -> tuple[int, dict[str, Any]]:
        """HTTP status and JSON of one answer. If the answer is an error, raises it."""
        import json

        status, content = self._exchange(method, target, b"" if body is None else json.dumps(body).encode(), limit_s)
        try:
            answer = json.loads(content)
            if status < 400:
                return status, dict(answer)
            error = answer["error"]
            code, message = str(error["code"]), str(error["message"])
        except (ValueError, TypeError, KeyError) as error:
            raise ReposyncError(f"what answers at {self._path} is not reposyncd") from error
        raise by_code(code)(message)

    def _exchange(self, method: str, target: str, body: bytes, limit_s: float) -> tuple[int, bytes]:
        state = "" if self._state_dir is None else f"{STATE_HEADER}: {quote(self._state_dir)}\r\n"
        head = (
            f"{method} {target} HTTP/1.1\r\nHost: reposyncd\r\nConnection: close\r\n{state}"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        deadline = time.monotonic() + limit_s
        with connect(self._path) as connection:
            try:
                connection.settimeout(limit_s)
                with suppress(BrokenPipeError, ConnectionResetError):  # it may have answered before reading everything
                    connection.sendall(head.encode("ascii") + body)
                return _answer(connection, deadline)
            except TimeoutError as error:
                raise DaemonLostError(f"the service at {self._path} has not answered for {limit_s:g} s") from error
            except OSError as error:
                raise DaemonLostError("the service ended before it answered") from error


def running(path: str) -> bool:
    """Whether a service answers at the socket, or would if it had fewer clients. Raises ReposyncError if that cannot be
    found out."""
    try:
        connect(path).close()
    except OverloadedError:
        return True
    except DaemonNotRunningError:
        return False
    return True


def not_running(path: str) -> DaemonNotRunningError:
    """The error for a service that is not running; `path` is its socket."""
    return DaemonNotRunningError(
        f"the service is not running (nothing answers at {path}); start it with: reposyncd service install, or: "
        "reposyncd daemon"
    )


def connect(path: str) -> Socket:
    """A connection to the service of this user that listens at `path`.

    Raises DaemonNotRunningError, OverloadedError, and ReposyncError if the socket belongs to another user.
    """
    if not os.path.exists(path):
        raise not_running(path)
    import socket

    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(_CONNECT_S)
        with addressed(path) as address:
            connection.connect(address)
        if peer_uid(connection) != os.geteuid():
            raise ReposyncError(f"{path} belongs to a service of another user; choose another with REPOSYNCD_SOCKET")
    except BaseException as error:
        connection.close()
        if isinstance(error, FileNotFoundError | NotADirectoryError | ConnectionError):
            raise not_running(path) from None
        if isinstance(error, BlockingIOError | TimeoutError):
            raise OverloadedError(f"too many clients are waiting for the service at {path}; try again") from None
        if isinstance(error, OSError):
            raise ReposyncError(f"{path} cannot be connected to: {error.strerror or error}") from error
        raise
    return connection


@contextmanager
def addressed(path: str) -> Iterator[str]:
    """An address for this path, valid inside the context. If the path is too long, it goes through the directory.

    Raises OSError, and ReposyncError if the name alone is too long.
    """
    if len(os.fsencode(path)) <= ADDRESS_BYTES:
        yield path
        return
    directory = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        address = f"/proc/self/fd/{directory}/{os.path.basename(path)}"
        if len(os.fsencode(address)) > ADDRESS_BYTES:
            raise ReposyncError(f"{path}: the socket's name is too long; choose another with REPOSYNCD_SOCKET")
        yield address
    finally:
        os.close(directory)


def peer_uid(connection: Socket) -> int:
    """The user id of the process at the other end: of the one that connected, or that created the socket (unix(7))."""
    import socket
    import struct

    layout = struct.Struct("iII")  # struct ucred: pid, uid, gid
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, layout.size)
    return int(layout.unpack(credentials)[1])


def quote(text: str) -> str:
    """The text as one segment of the path of a URL."""
    return "".join(chr(c) if chr(c).isalnum() and c < 128 else f"%{c:02X}" for c in os.fsencode(text))


def _answer(connection: Socket, deadline: float) -> tuple[int, bytes]:
    """HTTP status and body. Raises TimeoutError; OSError if the answer ends early; ReposyncError if it is not HTTP."""
    received = bytearray()
    needed: int | None = None  # bytes, known once the head has arrived
    status = body = 0
    while needed is None or len(received) < needed:
        connection.settimeout(max(0.001, deadline - time.monotonic()))  # 0 would mean not to wait at all
        part = connection.recv(_PART_BYTES)
        if not part:
            raise ConnectionResetError
        received += part
        if needed is None and (end := received.find(b"\r\n\r\n")) >= 0:
            body = end + 4
            lines = received[:end].decode("latin-1").split("\r\n")
            headers = {name.strip().lower(): value for name, _, value in (line.partition(":") for line in lines[1:])}
            try:
                status = int(lines[0].split()[1])
                needed = body + int(headers["content-length"])
            except (ValueError, IndexError, KeyError) as error:
                raise ReposyncError("what answers at the socket is not reposyncd") from error
    return status, bytes(received[body:needed])
