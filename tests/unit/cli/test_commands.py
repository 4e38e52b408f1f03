"""What each command asks the façade, and what it prints and exits with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from reposyncd.cli import _group
from reposyncd.errors import ReposyncError, TimedOutError
from tests.apps import SYNC_RESULT, Answer, RecordingApp


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> RecordingApp:
    app = RecordingApp("lab")
    monkeypatch.setattr("reposyncd.app.connect.connect", lambda config, **hooks: app)
    return app


def run(*arguments: str) -> Result:
    return CliRunner().invoke(_group, arguments)


HERE = str(Path.cwd())


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        (["sync"], ("sync", HERE, None, False)),
        (["sync", "./x", "--name", "lab", "--full"], ("sync", f"{HERE}/x", "lab", True)),
        (["repo", "add", "x", "--name", "lab"], ("add", f"{HERE}/x", "lab")),
        (["repo", "remove", "x"], ("remove", "x")),
        (["repo", "remove", "./x"], ("remove", f"{HERE}/x")),
        (["repo", "list"], ("status",)),
        (["status", "--check"], ("status",)),
        (["pause"], ("pause", None)),
        (["resume", "."], ("resume", HERE)),
        (["flush", "lab"], ("flush", "lab")),
        (["verify", "..", "--repair"], ("verify", str(Path.cwd().parent), True)),
        (["history", "lab", "-n", "3"], ("runs", "lab", 3)),
        (["search", "open", "door"], ("search", "open door", None, 5)),
        (["search", "door", "--repo", "./x", "-n", "2"], ("search", "door", f"{HERE}/x", 2)),
    ],
)
def test_a_command_is_one_call_of_the_facade(app: RecordingApp, arguments: list[str], asked: tuple[Any, ...]) -> None:
    run(*arguments)
    assert app.asked == [asked]


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (["repo", "add", "/x"], "lab: now tracking /x\n"),
        (["repo", "remove", "lab"], "lab: no longer tracking /lab\n"),
        (["repo", "list"], "nothing is indexed yet; index a directory with: reposyncd sync PATH\n"),
        (["pause"], "lab: paused; resume with: reposyncd resume lab\n"),
        (["resume"], "lab: resumed\n"),
        (["flush"], "lab: every change is in the index\n"),
        (["search", "x"], "nothing found\n"),
    ],
)
@pytest.mark.usefixtures("app")
def test_it_says_what_was_done(arguments: list[str], printed: str) -> None:
    out = run(*arguments)
    assert (out.exit_code, out.stdout) == (0, printed)


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["sync", "--json"], SYNC_RESULT),
        (["repo", "add", "/x", "--json"], {"name": "lab", "root": "/x"}),
        (["repo", "list", "--json"], []),
        (["pause", "--json"], {"repos": ["lab"]}),
        (["resume", "--json"], {"repos": ["lab"]}),
        (["flush", "--json"], {"repos": ["lab"], "errors": []}),
        (["verify", "--json"], []),
        (["history", "--json"], []),
        (["search", "x", "--json"], []),
    ],
)
@pytest.mark.usefixtures("app")
def test_json_is_the_answer_alone(arguments: list[str], answer: object) -> None:
    assert json.loads(run(*arguments).stdout) == answer


def answer(app: RecordingApp, monkeypatch: pytest.MonkeyPatch, method: str, result: Mapping[str, Any]) -> None:
    monkeypatch.setattr(app, method, lambda *asked: Answer(result, None))


ERRORS = [{"path": f"{number}.py", "error": "Permission denied"} for number in range(12)]


@pytest.mark.parametrize(
    ("command", "result"),
    [("sync", {**SYNC_RESULT, "errors": ERRORS}), ("flush", {"repos": ["lab"], "errors": ERRORS})],
)
def test_files_that_could_not_be_indexed_are_named_and_counted_and_the_exit_code_is_1(
    app: RecordingApp, monkeypatch: pytest.MonkeyPatch, command: str, result: Mapping[str, Any]
) -> None:
    answer(app, monkeypatch, command, result)
    out = run(command)
    assert out.exit_code == 1
    assert "  not indexed: 9.py: Permission denied\n  not indexed: 2 more; see --json\n" in out.stderr


def test_what_verification_finds_makes_the_exit_code_1(app: RecordingApp, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {
        "repo": "lab",
        "root": "/lab",
        "records": 1,
        "files": 1,
        "vectors": 1,
        "pending": 0,
        "counts": {"missing": 1},
        "problems": [{"kind": "missing", "path": "a.py", "id": "00"}],
        "errors": [],
        "repaired": False,
    }
    answer(app, monkeypatch, "verify", {"repos": [found]})
    out = run("verify")
    assert (out.exit_code, "  1 records are missing from the store\n" in out.stdout) == (1, True)


def test_a_flush_that_times_out_says_what_is_pending(app: RecordingApp, monkeypatch: pytest.MonkeyPatch) -> None:
    pending = [{"repo": "lab", "paths": [f"{number}.py" for number in range(8)], "why": "busy"}]

    class Late:
        def result(self, on_progress: Any, timeout_s: float) -> None:
            on_progress({"pending": pending, "trouble": "another program holds the lock"})
            raise TimedOutError(f"timed out after {timeout_s:g} s")

    monkeypatch.setattr(app, "flush", lambda repo: Late())
    out = run("flush", "--timeout", "2")
    assert (out.exit_code, out.stdout) == (1, "")
    assert out.stderr == (
        "reposyncd: timed out after 2 s; the service continues\n"
        "  lab: 0.py, 1.py, 2.py, 3.py, 4.py and 3 more: busy\n"
        "  another program holds the lock\n"
    )
    out = run("flush", "--json")
    assert (out.exit_code, json.loads(out.stdout)) == (1, {"repos": [], "errors": [], "pending": pending})


def test_an_error_of_the_facade_is_the_commands(app: RecordingApp) -> None:
    app.error = ReposyncError("it failed")
    assert run("pause").exception is app.error


def test_a_blank_query_is_not_asked(app: RecordingApp) -> None:
    assert run("search", " ").exit_code == 2
    assert app.asked == []


def test_a_repository_that_the_status_does_not_have_is_a_usage_error(app: RecordingApp) -> None:
    out = run("status", "other")
    assert (out.exit_code, 'there is no repository "other"' in out.stderr) == (2, True)
