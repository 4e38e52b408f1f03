"""The socket's file: whose it is, and who takes its place."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from reposyncd.app.client import Client, running
from reposyncd.daemon.http.api import Api
from reposyncd.errors import (
    BusyError,
    ReposyncError,
)
from tests.served import Shelf
from tests.unit.daemon.http.asking import LONG_S, ask


@pytest.mark.usefixtures("api")
def test_the_socket_is_private(path: str) -> None:
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_is_not_heard_even_where_the_file_system_lets_him_in(shelf: Shelf, tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "s")
        with Api(shelf, path, state_dir=str(tmp_path)):
            os.chmod(directory, 0o755)
            os.chmod(path, 0o666)
            script = (
                "import os, socket, sys\n"
                "if sys.argv[2] != '0': os.setuid(int(sys.argv[2]))\n"
                "s = socket.socket(socket.AF_UNIX)\n"
                "s.connect(sys.argv[1])\n"
                "try:\n"
                "    s.sendall(b'GET /v1/status HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n')\n"
                "    print(len(s.recv(100)))\n"
                "except OSError: print(0)\n"
            )
            command = [sys.executable, "-c", script, path]
            assert int(subprocess.run([*command, "0"], capture_output=True, text=True, check=True).stdout) > 0
            assert int(subprocess.run([*command, "65534"], capture_output=True, text=True, check=True).stdout) == 0


def test_a_socket_that_a_dead_daemon_left_is_replaced_and_that_of_a_live_one_is_not(
    shelf: Shelf, path: str, tmp_path: Path
) -> None:
    os.mkdir(os.path.dirname(path))
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    with Api(shelf, path, state_dir=str(tmp_path)):
        assert ask(path, "GET", "/v1/status")[0] == 200
        with pytest.raises(BusyError, match="another reposyncd service listens at"):
            Api(shelf, path, state_dir=str(tmp_path))
        assert ask(path, "GET", "/v1/status")[0] == 200


def test_a_file_that_is_no_socket_is_left_alone(shelf: Shelf, path: str, tmp_path: Path) -> None:
    os.mkdir(os.path.dirname(path))
    Path(path).write_text("precious")
    with pytest.raises(ReposyncError, match="is not a socket"):
        Api(shelf, path, state_dir=str(tmp_path))
    assert Path(path).read_text() == "precious"


def test_a_directory_that_others_may_write_to_is_refused(shelf: Shelf, path: str, tmp_path: Path) -> None:
    os.mkdir(os.path.dirname(path))
    os.chmod(os.path.dirname(path), 0o770)
    with pytest.raises(ReposyncError, match="chmod go-w"):
        Api(shelf, path, state_dir=str(tmp_path))


def test_a_directory_that_cannot_be_made_is_named(shelf: Shelf, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ReposyncError, match="file/run cannot be created: Not a directory"):
        Api(shelf, str(tmp_path / "file" / "run" / "s"), state_dir=str(tmp_path))


def test_a_long_path_is_no_hindrance_and_a_long_name_is_said(shelf: Shelf, tmp_path: Path) -> None:
    directory = tmp_path / ("d" * 100) / ("e" * 100)
    path = str(directory / "reposyncd.sock")
    with Api(shelf, path, state_dir=str(tmp_path)):
        assert os.listdir(directory) == ["reposyncd.sock"]
        assert Client(path).request("GET", "/v1/status")["version"] == "1.2.3"
        with pytest.raises(BusyError):
            Api(shelf, path, state_dir=str(tmp_path))
    assert os.listdir(directory) == []
    with pytest.raises(ReposyncError, match=r"f+: the socket's name is too long"):
        Api(shelf, str(directory / ("f" * 100)), state_dir=str(tmp_path))


def test_of_many_that_start_at_once_one_finds_the_place_free(
    shelf: Shelf, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkdir(os.path.dirname(path))
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    both_found_it_free = threading.Barrier(2)

    def running_and_then_slow(path: str) -> bool:
        found = running(path)
        if not found:
            with suppress(threading.BrokenBarrierError):
                both_found_it_free.wait(0.3)  # long enough for another to come to the same conclusion
        return found

    monkeypatch.setattr("reposyncd.daemon.http.sockets.running", running_and_then_slow)
    started: list[Api] = []
    refused: list[BusyError] = []

    def start() -> None:
        try:
            started.append(Api(shelf, path, state_dir=str(tmp_path)))
        except BusyError as error:
            refused.append(error)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG_S)
    assert (len(started), len(refused)) == (1, 7)
    assert ask(path, "GET", "/v1/status")[0] == 200
    started[0].close()
    assert not os.path.exists(path)


def test_a_close_leaves_a_file_that_another_put_in_the_place(api: Api, path: str) -> None:
    os.rename(path, path + ".kept")  # so that the inode is not given to the next
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
        api.close()
        assert os.path.exists(path)


def test_a_close_leaves_a_file_of_the_same_inode_on_another_file_system(
    api: Api, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two tmpfs give their first files the same inodes; here one lies about its device."""
    real = os.stat

    def stat_of_another_device(*args: Any, **options: Any) -> os.stat_result:
        found = list(real(*args, **options))
        found[stat.ST_DEV] += 1
        return os.stat_result(found)

    with monkeypatch.context() as patch:
        patch.setattr("os.stat", stat_of_another_device)
        patch.setattr("os.lstat", stat_of_another_device)
        assert not api.is_reachable
        api.close()
    assert os.path.exists(path)


@pytest.mark.parametrize("spoil", ["file", "directory", "place"])
def test_a_socket_whose_file_is_gone_says_so_and_another_can_take_the_place(
    shelf: Shelf, api: Api, path: str, tmp_path: Path, spoil: str
) -> None:
    assert api.is_reachable
    if spoil == "directory":
        os.rename(os.path.dirname(path), tmp_path / "elsewhere")
    else:
        os.rename(path, path + ".kept")  # so that the inode is not given to the next
    if spoil == "place":
        Path(path).touch()
    assert not api.is_reachable
    api.close()
    if spoil == "place":
        os.unlink(path)
    with Api(shelf, path, state_dir=str(tmp_path)) as again:
        assert again.is_reachable
        assert ask(path, "GET", "/v1/status")[0] == 200
    assert not again.is_reachable
