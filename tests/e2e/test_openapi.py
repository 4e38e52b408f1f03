"""The API's document is true: of real reports, of the committed copy, and whatever one asks."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from requests.adapters import HTTPAdapter
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool

from reposyncd.app.client import Client
from reposyncd.app.recorded_status import recorded_status
from reposyncd.daemon.http.routes import document
from tests.crash.faults import StoreLab
from tests.live.service import Live, live, many
from tests.live.test_process import daemon, stop

COPY = Path(__file__).parents[2] / "docs" / "openapi.json"

CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]

EXAMPLES = 40
"""Of requests for each operation: enough to find what is easy to find, in some seconds."""


def check(name: str, report: Any) -> None:
    schemas = document()["components"]["schemas"]
    schema = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": schemas}}
    jsonschema.Draft202012Validator(schema).validate(json.loads(json.dumps(report)))


@pytest.fixture
def lab(tmp_path: Path) -> Live:
    return live(tmp_path)


def test_the_committed_copy_is_what_the_code_says() -> None:
    assert json.loads(COPY.read_text()) == json.loads(json.dumps(document()))


def test_reports_of_a_service_and_of_a_state_directory_are_as_documented(lab: Live) -> None:
    check("Status", recorded_status(str(lab.state), time.time_ns(), "1"))
    lab.write(many(30))
    with lab.running() as service:
        check("Status", service.status())
        lab.write({"new.py": "x = 1\n"})
        check("Status", service.status())
        check("Flushed", lab.flush())
    found = recorded_status(str(lab.state), time.time_ns(), "1")
    check("Status", found)
    with pytest.raises(jsonschema.ValidationError):
        check("Status", {**found, "repos": [{"name": "x"}]})


class UnixAdapter(HTTPAdapter):
    """Sends requests over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._socket = path

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> HTTPConnectionPool:
        path = self._socket

        class Connection(HTTPConnection):
            def connect(self) -> None:
                self.sock = socket.socket(socket.AF_UNIX)
                self.sock.connect(path)

        class Pool(HTTPConnectionPool):
            ConnectionCls = Connection

        return Pool("reposyncd")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[tuple[StoreLab, Client]]:
    (tmp_path / "config.toml").write_text("")
    lab = StoreLab(
        tmp_path / "tree",
        tmp_path / "state",
        variables={"REPOSYNCD_SOCKET": str(tmp_path / "s"), "REPOSYNCD_CONFIG": str(tmp_path / "config.toml")},
    )
    lab.state.mkdir(mode=0o700)
    lab.write(many(20))
    with daemon(lab) as (client, process):
        client.request("POST", "/v1/sync", {"path": str(lab.root), "name": "lab"})
        yield lab, client
        stop(process)


def test_whatever_is_asked_is_answered_as_documented_and_the_engine_goes_on(place: tuple[StoreLab, Client]) -> None:
    lab, client = place
    other = lab.root.parent / "other"
    other.mkdir()
    (other / "a.py").write_text("print('a')\n")
    session = requests.Session()
    session.mount("http://", UnixAdapter(lab.variables["REPOSYNCD_SOCKET"]))
    schema = schemathesis.openapi.from_dict(document())
    asked: dict[str, set[int]] = {}
    for result in schema.get_all_operations():
        assert isinstance(result, Ok), result
        operation = result.ok()
        strategy = operation.as_strategy(generation_mode=schemathesis.GenerationMode.POSITIVE)
        strategy |= operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE)

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=strategy)
        def ask(case: schemathesis.Case[Any]) -> None:
            body: Any = case.body
            if isinstance(body, dict):
                if isinstance(body.get("path"), str) and body["path"].startswith("/"):
                    # Nothing of this machine is to be indexed.
                    body["path"] = str(other) if len(body["path"]) % 2 else "/nonexistent" + body["path"]
                if "wait_s" not in body or body["wait_s"] is None:
                    body["wait_s"] = 0.2
            response = case.call(session=session, base_url="http://reposyncd")
            asked.setdefault(case.operation.label, set()).add(response.status_code)
            case.validate_response(response, checks=CHECKS)

        ask()
    assert len(asked) == sum(len(methods) for methods in document()["paths"].values())
    assert all(200 in statuses or 404 in statuses for statuses in asked.values()), asked
    assert not any(500 in statuses for statuses in asked.values()), asked
    client.request("POST", "/v1/resume", {})
    client.request("POST", "/v1/sync", {"path": str(lab.root), "name": "lab"})
    lab.write({"d3/f3.txt": "a change after all of that\n"})
    client.request("POST", "/v1/flush", {})
    hits = client.request("POST", "/v1/search", {"query": "change after all of that", "limit": 3})["hits"]
    assert "d3/f3.txt" in {hit["path"] for hit in hits}
