"""Limits on connections and on time, and the end of the server."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from reposyncd.app.client import Client, connect
from reposyncd.daemon.http.api import Api
from reposyncd.daemon.http.server import CONNECTIONS
from reposyncd.errors import (
    OverloadedError,
)
from tests.live.service import until
from tests.served import Shelf
from tests.unit.daemon.http.asking import LONG_S, ask, receive


def test_a_slow_client_holds_nobody_up_and_is_sent_away(shelf: Shelf, path: str, tmp_path: Path) -> None:
    with (
        Api(shelf, path, state_dir=str(tmp_path), request_s=1.0),
        connect(path) as head,
        connect(path) as body,
        connect(path) as mute,
    ):
        mute.settimeout(LONG_S)
        head.settimeout(LONG_S)
        head.sendall(b"GET /v1/stat")
        body.settimeout(LONG_S)
        body.sendall(b"POST /v1/flush HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n{")
        assert ask(path, "GET", "/v1/status")[0] == 200

        def are_sent_away() -> bool:
            try:
                head.sendall(b"x")
                body.sendall(b" ")
            except (BrokenPipeError, ConnectionResetError):
                return True
            return False

        until(are_sent_away, "a byte now and then does not buy more time")
        assert receive(head)[0] == 408
        assert receive(body)[0] == 408
        assert receive(mute)[0] == 408


def test_a_client_that_does_not_read_is_left(shelf: Shelf, path: str, tmp_path: Path) -> None:
    shelf.store["reason"] = "x" * 10_000_000
    with Api(shelf, path, state_dir=str(tmp_path), request_s=0.5) as api, connect(path) as connection:
        connection.sendall(b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n")
        connection.settimeout(LONG_S)
        connection.recv(1)
        until(lambda: not api.connections, "it is cut off")


@pytest.mark.usefixtures("api")
def test_the_65th_connection_is_told_to_come_back_and_the_next_is_served(path: str) -> None:
    idle = [connect(path) for _ in range(CONNECTIONS)]
    with connect(path) as one_too_many:
        one_too_many.settimeout(LONG_S)
        status, answer, _ = receive(one_too_many)
    assert (status, answer["error"]["code"]) == (503, "overloaded")
    with pytest.raises(OverloadedError):
        Client(path).request("GET", "/v1/status")
    for connection in idle:
        connection.close()
    until(lambda: ask(path, "GET", "/v1/status")[0] == 200, "there is room again")


def test_a_close_while_a_request_waits_lets_it_end_or_cuts_it_off(
    shelf: Shelf, api: Api, path: str, tmp_path: Path
) -> None:
    shelf.roots = {"a": "/a"}
    shelf.gate.clear()
    request = b"POST /v1/flush HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    with connect(path) as waiting:
        waiting.settimeout(LONG_S)
        waiting.sendall(request)
        assert shelf.asked.acquire(timeout=LONG_S)
        api.close(grace_s=0)
        assert waiting.recv(100) == b""
    with Api(shelf, path, state_dir=str(tmp_path)) as again, connect(path) as waiting:
        waiting.settimeout(LONG_S)
        waiting.sendall(request)
        assert shelf.asked.acquire(timeout=LONG_S)
        closing = threading.Thread(target=again.close, args=(LONG_S,))
        closing.start()
        until(lambda: not os.path.exists(path), "it listens no more")
        shelf.gate.set()
        assert receive(waiting)[0] == 200
        closing.join(LONG_S)
        assert not closing.is_alive()


_EPOLL_WAITS = ("232", "281", "22")
"""epoll_wait(2) and epoll_pwait(2) on x86-64, epoll_pwait(2) on arm64; of each the fourth argument is the time-out."""


def test_nothing_wakes_up_while_nobody_asks(api: Api, path: str) -> None:
    def sleeps_until_somebody_comes() -> bool:
        """Whether the thread that serves is inside such a call, with a time-out of -1 (proc_pid_syscall(5))."""
        call = Path(f"/proc/self/task/{api._server.thread.native_id}/syscall").read_text().split()
        return call[0] in _EPOLL_WAITS and int(call[4], 16) & 0xFFFF_FFFF == 0xFFFF_FFFF

    until(sleeps_until_somebody_comes, "before the first request")
    ask(path, "GET", "/v1/status")
    ask(path, "POST", "/v1/flush")
    until(lambda: not api.connections and sleeps_until_somebody_comes(), "after the last one")
