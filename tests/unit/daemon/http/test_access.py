"""The API over TCP: who is heard, and who is not."""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from reposyncd.app.client import Client
from reposyncd.config import ApiConfig, load
from reposyncd.config.places import TOKEN
from reposyncd.daemon.http.access import is_local
from reposyncd.daemon.http.api import Api
from reposyncd.daemon.http.server import CONNECTIONS
from reposyncd.errors import BusyError, ConfigError, ReposyncError
from tests.live.service import until
from tests.served import Shelf


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def config() -> ApiConfig:
    return ApiConfig(listen=f"127.0.0.1:{free_port()}", hosts=("Dev.Example",))


@pytest.fixture
def api(tmp_path: Path, config: ApiConfig) -> Iterator[Api]:
    (tmp_path / "state").mkdir(mode=0o700)
    with Api(Shelf(), str(tmp_path / "s"), state_dir=str(tmp_path / "state")) as api:
        api.listen(config)
        yield api


def ask(config: ApiConfig, **headers: str) -> tuple[int, dict[str, Any]]:
    host, _, port = config.listen.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    connection.request("GET", "/v1/status", headers={name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    found: dict[str, Any] = json.loads(answer.read())
    if answer.status == 401:
        assert answer.getheader("WWW-Authenticate") == "Bearer"
    return answer.status, found


def token(place: Path) -> str:
    return (place / "state" / TOKEN).read_text().strip()


@pytest.mark.usefixtures("api")
def test_whoever_has_the_token_is_heard(tmp_path: Path, config: ApiConfig) -> None:
    path = tmp_path / "state" / TOKEN
    assert path.stat().st_mode & 0o777 == 0o600 and len(token(tmp_path)) >= 40
    for host in ("127.0.0.1", "localhost:7464", "[::1]:7464", "dev.example:80"):
        status, found = ask(config, Authorization=f"Bearer {token(tmp_path)}", Host=host)
        assert (status, "repos" in found) == (200, True), host


@pytest.mark.usefixtures("api")
def test_without_the_token_nobody_is(tmp_path: Path, config: ApiConfig) -> None:
    right = token(tmp_path)
    for given in (
        {},
        {"Authorization": f"Bearer {right}x"},
        {"Authorization": f"Basic {right}"},
        {"Authorization": right},
    ):
        status, found = ask(config, **given)
        assert (status, found["error"]["code"]) == (401, "unauthorized")
        assert right not in json.dumps(found)


@pytest.mark.usefixtures("api")
def test_a_page_that_was_made_to_point_here_is_not_heard(tmp_path: Path, config: ApiConfig) -> None:
    bearer = f"Bearer {token(tmp_path)}"
    for host in ("evil.example", "evil.example:7464", "localhost.evil.example", "10.0.0.1", ""):
        assert ask(config, Authorization=bearer, Host=host)[0] == 403, host
    assert ask(config, Authorization=bearer, Origin="http://localhost")[0] == 403


def test_callers_without_a_token_fill_up_tcp_and_nobody_is_kept_from_the_unix_socket(
    api: Api, tmp_path: Path, config: ApiConfig
) -> None:
    host, _, port = config.listen.rpartition(":")
    with ExitStack() as stack:
        for _ in range(CONNECTIONS):
            stack.enter_context(socket.create_connection((host, int(port))))
        until(lambda: api.connections == CONNECTIONS, "all of them are connected")
        assert ask(config, Authorization=f"Bearer {token(tmp_path)}")[0] == 503
        assert "repos" in Client(str(tmp_path / "s")).request("GET", "/v1/status")


@pytest.mark.usefixtures("api")
def test_the_unix_socket_needs_no_token(tmp_path: Path) -> None:
    assert "repos" in Client(str(tmp_path / "s")).request("GET", "/v1/status")


def test_an_address_is_opened_exchanged_and_closed_while_it_runs(api: Api, tmp_path: Path, config: ApiConfig) -> None:
    bearer = f"Bearer {token(tmp_path)}"
    other = config._replace(listen=f"127.0.0.1:{free_port()}")
    api.listen(other)
    assert ask(other, Authorization=bearer)[0] == 200
    with pytest.raises(ConnectionRefusedError):
        ask(config, Authorization=bearer)
    api.listen(other._replace(hosts=()))
    assert ask(other, Authorization=bearer, Host="dev.example")[0] == 403
    api.listen(ApiConfig())
    with pytest.raises(ConnectionRefusedError):
        ask(other, Authorization=bearer)
    assert "repos" in Client(str(tmp_path / "s")).request("GET", "/v1/status")


def test_an_address_that_is_taken_is_refused_and_the_old_one_stays(api: Api, tmp_path: Path, config: ApiConfig) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(BusyError, match=r"api\.listen"):
            api.listen(ApiConfig(listen=f"127.0.0.1:{taken.getsockname()[1]}"))
    assert ask(config, Authorization=f"Bearer {token(tmp_path)}", Host="dev.example")[0] == 200


def test_another_host_with_the_same_port_takes_the_place_of_the_last_one(
    api: Api, tmp_path: Path, config: ApiConfig
) -> None:
    bearer = f"Bearer {token(tmp_path)}"
    port = config.listen.rpartition(":")[2]
    for host in ("0.0.0.0", "127.0.0.1", "127.0.0.2"):
        moved = config._replace(listen=f"{host}:{port}")
        api.listen(moved)
        assert ask(moved, Authorization=bearer, Host="localhost")[0] == 200, host


def test_the_last_address_is_taken_back_where_another_host_with_its_port_cannot_be_had(
    api: Api, tmp_path: Path, config: ApiConfig
) -> None:
    port = int(config.listen.rpartition(":")[2])
    with socket.socket() as taken:
        taken.bind(("127.0.0.2", port))
        taken.listen()
        for host in ("127.0.0.2", "0.0.0.0"):
            with pytest.raises(BusyError, match=host):
                api.listen(ApiConfig(listen=f"{host}:{port}"))
            assert ask(config, Authorization=f"Bearer {token(tmp_path)}", Host="dev.example")[0] == 200


def test_a_token_that_the_disk_lost_is_made_anew(tmp_path: Path, config: ApiConfig) -> None:
    path = tmp_path / "state" / TOKEN
    path.parent.mkdir(mode=0o700)
    path.touch(0o600)
    with Api(Shelf(), str(tmp_path / "s"), state_dir=str(tmp_path / "state")) as api:
        api.listen(config)
    assert len(path.read_text()) > 40 and path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(path.parent) == [TOKEN]


@pytest.mark.parametrize("spoil", ["readable", "link"])
def test_a_token_that_others_may_know_is_refused(tmp_path: Path, config: ApiConfig, spoil: str) -> None:
    path = tmp_path / "state" / TOKEN
    path.parent.mkdir(mode=0o700)
    if spoil == "link":
        (tmp_path / "elsewhere").write_text("abc\n")
        path.symlink_to(tmp_path / "elsewhere")
    else:
        path.write_text("abc\n")
        path.chmod(0o644 if spoil == "readable" else 0o600)
    with Api(Shelf(), str(tmp_path / "s"), state_dir=str(tmp_path / "state")) as api:
        with pytest.raises(ReposyncError, match=TOKEN):
            api.listen(config)
        with pytest.raises(ConnectionRefusedError):
            ask(config)


@pytest.mark.parametrize(
    ("listen", "message"),
    [
        ("7464", 'it must be an IP address with a port, as in "127.0.0.1:7464"'),
        ("localhost:7464", "it must be an IP address with a port"),
        ("127.0.0.1:0", "it must be an IP address with a port"),
        ("127.0.0.1:99999", "it must be an IP address with a port"),
        ("0.0.0.0:7464", "other machines can reach; to allow that, set api.remote = true"),
        ("[::]:7464", "other machines can reach"),
    ],
)
def test_an_address_that_is_none_or_is_not_this_machines_is_a_wrong_configuration(listen: str, message: str) -> None:
    environ = {"HOME": "/nonexistent", "REPOSYNCD_API__LISTEN": listen}
    with pytest.raises(ConfigError, match=r"api\.listen") as raised:
        load(environ)
    assert message in str(raised.value)


def test_another_machines_address_has_to_be_meant() -> None:
    environ = {"HOME": "/nonexistent", "REPOSYNCD_API__LISTEN": "0.0.0.0:7464", "REPOSYNCD_API__REMOTE": "true"}
    assert load(environ).api.remote
    assert load({**environ, "REPOSYNCD_API__LISTEN": "[::1]:7464"}).api.listen == "[::1]:7464"


def test_a_name_that_only_begins_like_a_local_one_is_none() -> None:
    assert is_local("127.8.9.1", ()) and is_local("[::1]", ()) and is_local("LOCALHOST", ())
    assert not any(is_local(host, ("a",)) for host in ("a.b", "127.0.0.1.b", "[::2]", "::", "", "localhost."))
    assert os.path.sep not in TOKEN
