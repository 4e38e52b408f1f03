"""The service's API: HTTP/1.1 and JSON over its Unix socket, and over TCP if that is configured."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress

from reposyncd.config import ApiConfig, address_of
from reposyncd.daemon.http.access import access_policy
from reposyncd.daemon.http.dispatch import Dispatcher
from reposyncd.daemon.http.responses import raw_refusal
from reposyncd.daemon.http.server import GRACE_S, Server
from reposyncd.daemon.http.sockets import file_id, listen_at_address, listen_at_path
from reposyncd.daemon.ports import Service
from reposyncd.errors import ReposyncError

REQUEST_S = 15.0
"""How long a client may take to send its request, and how long to read the answer, in seconds."""


class Api:
    """Serves `service` at the socket `path` until it is closed. A context manager.

    Requests that name another state directory than `state_dir` are refused. Raises BusyError if another service listens
    at `path`, and ReposyncError if the socket cannot be created. `on_death` is called in the serving thread if that
    ends without a call of `close`. Tests set `request_s`.
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
        self._path = path
        self._state_dir = os.path.realpath(state_dir)
        self._address = ""
        """the address at which it listens over TCP; "" for none"""
        self._closing = threading.Lock()
        self.dispatcher = Dispatcher(service, state_dir)
        listening, self._file = listen_at_path(path)
        self._server = Server(self.dispatcher, listening, request_s=request_s, refusal=raw_refusal, on_death=on_death)

    def __enter__(self) -> Api:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return self._server.connections

    @property
    def is_reachable(self) -> bool:
        """Whether the file at the path is still this API's socket. If somebody has deleted or replaced it, no new
        client can connect: close this API and create another."""
        return self._file is not None and file_id(self._path) == self._file

    def ping(self, timeout_s: float) -> bool:
        """Whether the serving thread answers within this time. For any other thread."""
        return self._server.ping(timeout_s)

    def close(self, grace_s: float = GRACE_S) -> None:
        """Stops listening at once. Requests that are being answered have `grace_s` seconds to finish.

        If the service fails its tasks before this, their clients get that error. May be called again. Removes the file
        of the socket if it still belongs to this API.
        """
        if not self._closing.acquire(blocking=False):
            return
        if self.is_reachable:  # unlinked while it still listens, so that nobody takes the path to be free
            with suppress(OSError):
                os.unlink(self._path)
        self._server.close(grace_s)

    def listen(self, config: ApiConfig) -> None:
        """Listens over TCP as configured. For any other thread. If it raises ReposyncError, nothing has changed."""
        policy = access_policy(config, self._state_dir) if config.listen else None
        if config.listen != self._address:
            self._move(config.listen)
        self.dispatcher.set_access(policy)

    def _move(self, address: str) -> None:
        """Listens at this address instead of the previous one. Raises ReposyncError, and then keeps the previous one.

        127.0.0.1 and 0.0.0.0 cannot both use the same port. In such a case, the previous address is closed first. If
        another program takes the port in between, nothing listens over TCP.
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
        """Listens at this address only; "" for none."""
        self._server.listen_also(listen_at_address(address) if address else None)
        self._address = address
