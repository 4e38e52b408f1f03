"""The client against the API, and against what is no daemon."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reposyncd.app.client import Client, quote, running
from reposyncd.daemon.http.api import Api
from reposyncd.errors import (
    DaemonLostError,
    DaemonNotRunningError,
    OverloadedError,
    ReposyncError,
    RootMissingError,
    TimedOutError,
    by_code,
)
from tests.served import Shelf


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "reposyncd.sock")


@pytest.fixture
def api(shelf: Shelf, path: str, tmp_path: Path) -> Iterator[Api]:
    with Api(shelf, path, state_dir=str(tmp_path)) as api:
        yield api


@pytest.mark.usefixtures("api")
def test_work_is_waited_for_and_its_progress_told_until_it_is_done(path: str, shelf: Shelf) -> None:
    shelf.roots, shelf.dirty = {"a": "/a"}, {"a": ["x.py"]}
    shelf.gate.clear()
    seen: list[dict[str, Any]] = []

    def look(progress: dict[str, Any]) -> None:
        seen.append(progress)
        shelf.files_done += 1
        if len(seen) == 3:
            shelf.gate.set()

    assert Client(path).request("POST", "/v1/flush", {"repo": "a"}, look) == {"repos": ["a"], "errors": []}
    assert [each["files_done"] for each in seen[:3]] == [0, 1, 2]
    assert seen[0]["pending"] == [{"repo": "a", "paths": ["x.py"], "why": "the gate is closed"}]


@pytest.mark.usefixtures("api")
@pytest.mark.parametrize("name", ["a b", "ü/..%?#", "\n"])
def test_a_repo_of_any_name_can_be_removed(path: str, shelf: Shelf, name: str) -> None:
    shelf.roots = {name: "/a"}
    assert Client(path).request("DELETE", f"/v1/repos/{quote(name)}") == {"name": name, "root": "/a"}


@pytest.mark.usefixtures("api")
def test_a_path_that_is_no_unicode_arrives_as_it_is(path: str, tmp_path: Path) -> None:
    tree = os.fsdecode(os.fsencode(tmp_path) + b"/tree-\xff")
    os.mkdir(tree)
    assert Client(path).request("POST", "/v1/repos", {"path": tree, "name": "n"})["root"] == tree


@pytest.mark.usefixtures("api")
def test_who_does_not_want_to_wait_longer_is_told_and_the_work_goes_on(path: str, shelf: Shelf) -> None:
    shelf.roots, shelf.dirty = {"a": "/a"}, {"a": ["x.py"]}
    shelf.gate.clear()
    seen: list[dict[str, Any]] = []
    with pytest.raises(TimedOutError, match=r"timed out after 0\.1 s"):
        Client(path).request("POST", "/v1/flush", None, seen.append, timeout_s=0.1)
    assert seen[-1]["pending"]
    shelf.gate.set()
    Client(path).request("POST", "/v1/flush")
    assert not shelf.dirty


@pytest.mark.usefixtures("api")
def test_an_error_is_raised_as_the_class_that_the_daemon_raised(path: str) -> None:
    with pytest.raises(RootMissingError, match="/no/such/place does not exist"):
        Client(path).request("POST", "/v1/sync", {"path": "/no/such/place"})


def test_a_code_that_is_not_known_is_an_error_of_no_class() -> None:
    assert by_code("of the future") is ReposyncError


def test_where_nobody_listens_the_daemon_is_not_running(path: str) -> None:
    for make in (lambda: None, lambda: Path(path).touch(), left_behind(path)):
        Path(path).unlink(missing_ok=True)
        make()
        assert not running(path)
        with pytest.raises(DaemonNotRunningError, match="start it with: reposyncd service install") as raised:
            Client(path).request("GET", "/v1/status")
        assert raised.value.exit_code == 3


def left_behind(path: str) -> Any:
    def leave() -> None:
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(path)

    return leave


def test_a_daemon_that_takes_no_more_callers_is_running(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as full:
        full.bind(path)
        full.listen(0)
        with socket.socket(socket.AF_UNIX) as waiting:
            waiting.connect(path)
            assert running(path)
            with pytest.raises(OverloadedError):
                Client(path).request("GET", "/v1/status")


def test_a_daemon_that_is_silent_is_lost_after_the_time_that_was_given(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(path)
        silent.listen(5)
        with pytest.raises(DaemonLostError, match=r"has not answered for 0\.1 s"):
            Client(path).request("GET", "/v1/status", timeout_s=0.1)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"", DaemonLostError),
        (b"HTTP/1.1 200 OK\r\nContent-Le", DaemonLostError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{", DaemonLostError),
        (b"220 mail.example ESMTP\r\n\r\n", ReposyncError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", ReposyncError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n42", ReposyncError),
        (b"HTTP/1.1 500 OK\r\nContent-Length: 2\r\n\r\n{}", ReposyncError),
    ],
)
def test_an_answer_that_is_cut_off_or_none_is_an_error(path: str, answer: bytes, error: type[ReposyncError]) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen(5)

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(error) as raised:
            Client(path).request("GET", "/v1/status")
        thread.join()
    assert type(raised.value) is error


def test_a_daemon_that_ends_while_it_is_waited_for_is_lost(path: str, shelf: Shelf, api: Api) -> None:
    shelf.gate.clear()
    with pytest.raises(DaemonLostError, match="the service ended before the work was done"):
        Client(path).request("POST", "/v1/flush", None, lambda progress: api.close(0))


def test_a_daemon_that_was_started_anew_knows_nothing_of_what_was_asked(
    path: str, shelf: Shelf, api: Api, tmp_path: Path
) -> None:
    shelf.gate.clear()
    next_one: list[Api] = []

    def replace(progress: dict[str, Any]) -> None:
        api.close(0)
        next_one.append(Api(shelf, path, state_dir=str(tmp_path)))

    with pytest.raises(DaemonLostError, match="was restarted"):
        Client(path).request("POST", "/v1/flush", None, replace)
    next_one[0].close()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_a_socket_of_another_user_is_not_trusted(tmp_path: Path) -> None:
    path = tmp_path / "s"
    script = (
        "import os, socket, sys\n"
        "s = socket.socket(socket.AF_UNIX)\n"
        "s.bind(sys.argv[1])\n"
        "os.setuid(65534)\n"
        "s.listen()\n"
        "print('ready', flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", script, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout
        assert other.stdout.readline() == b"ready\n"
        with pytest.raises(ReposyncError, match="a service of another user"):
            Client(str(path)).request("GET", "/v1/status")
        other.communicate()


def test_who_only_asks_loads_next_to_nothing() -> None:
    script = "import sys, reposyncd.app.client; print(sorted(n for n in sys.modules if n.startswith('reposyncd')))"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "['reposyncd', 'reposyncd.app', 'reposyncd.app.client', 'reposyncd.errors']"
    script = "import sys, reposyncd.app.client; print({'socket', 'json', 'http', 'subprocess'} & sys.modules.keys())"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "set()\n"
