"""Where the kernel gives no more watches, the service says so, polls, and heals; the real program, in a namespace."""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from reposyncd.app.client import Client
from reposyncd.errors import DaemonNotRunningError
from tests.crash.faults import StoreLab, end
from tests.live.service import until

DIRECTORIES = 60

VOCABULARY = (
    "changed text open close read write file directory index store batch commit event watch reader engine "
    "path name root tree scan list hash digest chunk vector query result error retry wait lock time"
)


def can_unshare() -> bool:
    found = subprocess.run(
        ["unshare", "-Ur", "sh", "-c", "echo 10 > /proc/sys/user/max_inotify_watches"], capture_output=True
    )
    return found.returncode == 0


@pytest.fixture
def lab(tmp_path: Path) -> StoreLab:
    if not can_unshare():
        pytest.skip("user namespaces are not allowed here")
    lab = StoreLab(
        tmp_path / "tree",
        tmp_path / "state",
        variables={
            "REPOSYNCD_SOCKET": str(tmp_path / "s"),
            "REPOSYNCD_WATCH__POLL": "1",
            "REPOSYNCD_WATCH__SETTLE": "0.05",
        },
    )
    lab.state.mkdir(mode=0o700)
    lab.write({f"d{number}/f.txt": words(number) for number in range(DIRECTORIES)})
    return lab


@contextmanager
def daemon(lab: StoreLab, limit: str, number: int) -> Iterator[tuple[Client, subprocess.Popen[str]]]:
    """A service whose user may have so many of something, that keeps the tree."""
    script = f'echo {number} > /proc/sys/user/{limit}; exec "$@"'
    process = lab.start("daemon", before=["unshare", "-Ur", "sh", "-c", script, "sh"])
    client = Client(lab.variables["REPOSYNCD_SOCKET"])
    try:
        until(lambda: answers(client), "it answers")
        client.request("POST", "/v1/sync", {"path": str(lab.root), "name": "lab"})
        yield client, process
    finally:
        process.terminate()
        end(process)


def answers(client: Client) -> bool:
    try:
        client.request("GET", "/v1/status")
    except DaemonNotRunningError:
        return False
    return True


def has_begun(client: Client) -> bool:
    """Whether it answers, and knows more than what is on record."""
    return answers(client) and not client.request("GET", "/v1/status")["daemon"]["starting"]


def status(client: Client) -> dict[str, Any]:
    [repo] = client.request("GET", "/v1/status")["repos"]
    found: dict[str, Any] = repo
    return found


def has(lab: StoreLab, client: Client, path: str) -> bool:
    """Whether the file's text is found. The search is told the text, since its graph of neighbours is approximate."""
    text = (lab.root / path).read_text()
    hits = client.request("POST", "/v1/search", {"query": text, "limit": 50})["hits"]
    return any(hit["path"] == path and hit["text"] == text for hit in hits)


def words(number: int) -> str:
    """A text that is like no other, and somewhat like every other: a graph of neighbours needs that."""
    chosen = random.Random(number).choices(VOCABULARY.split(), k=12)
    return f"{number} " + " ".join(chosen) + "\n"


def set_limit(process: subprocess.Popen[str], limit: str, number: int) -> None:
    subprocess.run(
        ["nsenter", "--user", "--preserve-credentials", "--target", str(process.pid)]  # noqa: RUF005
        + ["sh", "-c", f"echo {number} > /proc/sys/user/{limit}"],
        check=True,
    )


@pytest.mark.parametrize(("limit", "number"), [("max_inotify_watches", 20), ("max_inotify_instances", 0)])
def test_where_watches_are_short_everything_is_found_by_polling_and_it_heals(
    lab: StoreLab, limit: str, number: int
) -> None:
    with daemon(lab, limit, number) as (client, process):
        found = status(client)
        assert (found["state"], found["watch"]["mode"]) == ("degraded", "poll")
        assert f"sudo sysctl user.{limit}=" in found["reason"], json.dumps(found)
        if limit == "max_inotify_watches":
            assert found["watch"]["directories"] + found["watch"]["unwatched"] == DIRECTORIES + 1
        for directory in range(DIRECTORIES):
            lab.write({f"d{directory}/f.txt": "changed text " + words(1000 + directory)})
        until(lambda: all(has(lab, client, f"d{n}/f.txt") for n in range(0, DIRECTORIES, 7)), "found by polling")
        lab.write({"d3/flushed.txt": "changed text, flushed\n"})
        client.request("POST", "/v1/flush", {})
        assert has(lab, client, "d3/flushed.txt")
        set_limit(process, limit, 100_000)
        until(lambda: status(client)["watch"]["mode"] == "inotify", "it heals")
        until(lambda: status(client)["state"] == "current", "current")
        assert status(client)["watch"]["directories"] == DIRECTORIES + 1
        lab.write({"d5/f.txt": "changed text, and seen at once\n"})
        client.request("POST", "/v1/flush", {})
        assert has(lab, client, "d5/f.txt")
    lab.assert_equals_an_index_built_from_scratch()


@pytest.mark.parametrize("directories", [10, 17_000])
def test_events_lost_while_the_process_was_stopped_are_made_good(
    lab: StoreLab, directories: int, tmp_path: Path
) -> None:
    lab.write({".gitignore": "*.tmp\n"})
    for number in range(directories):
        (lab.root / f"many/{number % 100}/{number}").mkdir(parents=True)
    process = lab.start("daemon")
    client = Client(lab.variables["REPOSYNCD_SOCKET"])
    try:
        until(lambda: answers(client), "it answers")
        client.request("POST", "/v1/sync", {"path": str(lab.root), "name": "lab"})
        watched = status(client)["watch"]["directories"]
        assert watched > directories
        os.kill(process.pid, 19)
        for number in range(20_000):
            (lab.root / f"d{number % DIRECTORIES}" / f"{number}.tmp").touch()
        lab.write({f"d{number}/f.txt": "changed text " + words(2000 + number) for number in range(0, DIRECTORIES, 9)})
        lab.write({"many/5/5/new.txt": "changed text in a directory without files\n"})
        os.kill(process.pid, 18)
        client.request("POST", "/v1/flush", {})
        assert client.request("GET", "/v1/status")["daemon"]["events_lost"] > 0
        assert has(lab, client, "d9/f.txt")
        assert has(lab, client, "many/5/5/new.txt")
        lab.write({"many/7/7/new.txt": "changed text, and still watched\n"})
        client.request("POST", "/v1/flush", {})
        assert has(lab, client, "many/7/7/new.txt")
        assert status(client)["watch"]["directories"] == watched
    finally:
        os.kill(process.pid, 18)
        process.terminate()
        end(process)
    lab.assert_equals_an_index_built_from_scratch()
