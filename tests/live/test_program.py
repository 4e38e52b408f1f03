"""The real program, with the real store: it dies, finds damage, and keeps what it kept."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from reposyncd.app.client import Client
from tests.crash.faults import StoreLab, end
from tests.live.service import until
from tests.live.test_limits import has, has_begun, status, words


@pytest.fixture
def lab(tmp_path: Path) -> StoreLab:
    lab = StoreLab(
        tmp_path / "tree",
        tmp_path / "state",
        variables={"REPOSYNCD_SOCKET": str(tmp_path / "s"), "REPOSYNCD_WATCH__SETTLE": "0.05"},
    )
    lab.state.mkdir(mode=0o700)
    lab.write({f"d{number % 7}/f{number}.txt": words(number) for number in range(200)})
    return lab


@contextmanager
def daemon(lab: StoreLab) -> Iterator[tuple[Client, subprocess.Popen[str]]]:
    process = lab.start("daemon")
    client = Client(lab.variables["REPOSYNCD_SOCKET"])
    try:
        until(lambda: has_begun(client) or process.poll() is not None, "it has begun")
        yield client, process
        process.terminate()
        assert process.wait(60) in (0, -signal.SIGKILL), process.stderr and process.stderr.read()
    finally:
        end(process)


def sync(lab: StoreLab, client: Client) -> None:
    client.request("POST", "/v1/sync", {"path": str(lab.root), "name": "lab"})


def lose_manifest(lab: StoreLab) -> None:
    for path in lab.state.glob("manifest.db*"):
        path.unlink()


def damage_manifest(lab: StoreLab) -> None:
    (lab.state / "manifest.db-wal").unlink()  # it may have a good copy of every page
    with open(lab.state / "manifest.db", "r+b") as file:
        file.write(b"not a database any more " * 100)


def damage_table(lab: StoreLab, table: str) -> None:
    """The pages of one table, of which only those learn who read it."""
    with closing(sqlite3.connect(lab.state / "manifest.db")) as manifest:
        manifest.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        pages = manifest.execute("SELECT rootpage FROM sqlite_master WHERE tbl_name = ? AND rootpage", (table,))
        numbers = [number for (number,) in pages]
        [(size,)] = manifest.execute("PRAGMA page_size")
    with open(lab.state / "manifest.db", "r+b") as file:
        for number in numbers:
            file.seek((number - 1) * size)
            file.write(b"\xde\xad" * (size // 2))


def damage_store(lab: StoreLab) -> None:
    with open(lab.state / "chroma" / "chroma.sqlite3", "r+b") as file:
        file.write(b"not a database any more " * 100)


def nothing(lab: StoreLab) -> None:
    """It only dies."""


@pytest.mark.parametrize(
    ("damage", "what"),
    [(nothing, []), (lose_manifest, []), (damage_manifest, ["manifest"]), (damage_store, ["store"])],
)
def test_a_service_that_was_killed_keeps_its_repositories_whatever_was_damaged_meanwhile(
    lab: StoreLab, damage: Callable[[StoreLab], None], what: list[str]
) -> None:
    with daemon(lab) as (client, process):
        sync(lab, client)
        process.kill()
        process.wait()
    damage(lab)
    lab.write({"d1/f1.txt": "changed text while it was down\n"})
    with daemon(lab) as (client, _):
        until(lambda: status(client)["state"] == "current", "current, unasked")
        assert has(lab, client, "d1/f1.txt")
        found = client.request("GET", "/v1/status")
        assert [each["what"] for each in found["incidents"]] == what
        lab.write({"d2/f2.txt": "changed text, and still watched\n"})
        client.request("POST", "/v1/flush", {})
        assert has(lab, client, "d2/f2.txt")
    lab.assert_equals_an_index_built_from_scratch()


@pytest.mark.parametrize("table", ["generation", "file", "run", "incident"])
def test_a_service_starts_whatever_table_of_the_manifest_is_damaged(lab: StoreLab, table: str) -> None:
    lab.sync()
    damage_table(lab, table)
    lab.write({"d1/f1.txt": "changed text while it was down\n"})
    with daemon(lab) as (client, _):
        until(lambda: status(client)["state"] == "current", "current, unasked")
        assert has(lab, client, "d1/f1.txt")
        found = client.request("GET", "/v1/status")
        assert [each["what"] for each in found["incidents"]] == ["manifest"]


def test_a_service_starts_when_the_store_is_damaged_and_the_manifest_is_lost(lab: StoreLab) -> None:
    lab.sync()
    lose_manifest(lab)
    damage_store(lab)
    with daemon(lab) as (client, _):
        assert [each["what"] for each in client.request("GET", "/v1/status")["incidents"]] == ["store"]
        sync(lab, client)  # nobody knows of it any more
        assert has(lab, client, "d1/f1.txt")


def test_a_service_that_is_killed_in_a_first_index_goes_on_from_there(lab: StoreLab) -> None:
    lab.write({f"many/{number}.txt": f"file {number} of many\n" for number in range(4000)})
    lab.variables["REPOSYNCD_LIMITS__RATE"] = "300"  # so that it is not over before anybody looks
    with daemon(lab) as (client, process):
        client.request("POST", "/v1/repos", {"path": str(lab.root), "name": "lab"})
        until(lambda: (status(client)["progress"] or {}).get("chunks", 0) > 500, "some of it is stored")
        process.kill()
        process.wait()
    stored = len(lab.committed())
    assert 500 < stored < 4200
    del lab.variables["REPOSYNCD_LIMITS__RATE"]
    with daemon(lab) as (client, _):
        client.request("POST", "/v1/flush", {})
        [run, *_] = [status(client)["last_sync"]]
        assert run["chunks"]["embedded"] == 4200 - stored
    lab.assert_equals_an_index_built_from_scratch()


def test_the_death_of_the_index_process_is_not_noticed(lab: StoreLab) -> None:
    with daemon(lab) as (client, process):
        sync(lab, client)
        for number in range(3):
            children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
            for child in children:
                os.kill(int(child), signal.SIGKILL)
            lab.write({"d3/f3.txt": "changed text " + words(1000 + number)})
            client.request("POST", "/v1/flush", {})
            assert has(lab, client, "d3/f3.txt")
    lab.assert_equals_an_index_built_from_scratch()


def test_what_another_program_does_to_the_store_is_undone(lab: StoreLab) -> None:
    script = (
        "import sys, chromadb; c = chromadb.PersistentClient(sys.argv[1]); [col] = c.list_collections();"
        "ids = col.get(limit=20)['ids']; col.delete(ids[:10]); col.update(ids[10:], metadatas=[{'path': 'x'}] * 10)"
    )
    with daemon(lab) as (client, _):
        sync(lab, client)
        subprocess.run([sys.executable, "-c", script, str(lab.state / "chroma")], check=True)
        lab.write({"d4/f4.txt": "changed text, which has the store looked at\n"})
        client.request("POST", "/v1/flush", {})
    lab.assert_equals_an_index_built_from_scratch()
