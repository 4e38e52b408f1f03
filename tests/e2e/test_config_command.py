"""What the commands about commands say: configuration, completion, help."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from http import HTTPStatus
from itertools import takewhile
from pathlib import Path

import click
import pytest

from reposyncd.app.messages import STATES
from reposyncd.cli import _group, completion
from reposyncd.cli.config import reference, template
from reposyncd.config import KEYS, load
from reposyncd.daemon.http.api import Api
from reposyncd.daemon.http.responses import failure
from reposyncd.errors import ReposyncError
from tests.live.service import until
from tests.served import Shelf

PROGRAM = [sys.executable, "-m", "reposyncd"]
PROJECT = Path(__file__).parents[2]


def environ(place: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("REPOSYNCD_", "XDG_"))}
    return {**kept, "HOME": str(place), "REPOSYNCD_STATE_DIR": str(place / "state"), **more}


def run(place: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PROGRAM, *arguments], env=environ(place, **more), capture_output=True, text=True, cwd=place)


def test_every_key_is_shown_with_its_value_and_where_it_comes_from(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('[watch]\n\nsettle = 0.5\n[index]\nexclude = ["a|b"]\n')
    more = {"REPOSYNCD_CONFIG": str(tmp_path / "c.toml"), "REPOSYNCD_LIMITS__NICE": "3"}
    shown = json.loads(run(tmp_path, "config", "show", "--json", **more).stdout)
    assert set(shown) == {key.path for key in KEYS}
    assert shown["watch.settle"] == {"value": 0.5, "from": f"{tmp_path}/c.toml, line 3"}
    assert shown["limits.nice"] == {"value": 3, "from": "REPOSYNCD_LIMITS__NICE"}
    assert shown["watch.poll"] == {"value": 60.0, "from": "default"}
    text = run(tmp_path, "config", "show", **more).stdout
    assert 'index.exclude           ["a|b"]' in text


def test_a_new_configuration_file_changes_nothing_and_is_never_overwritten(tmp_path: Path) -> None:
    place = tmp_path / ".config" / "reposyncd" / "config.toml"
    assert run(tmp_path, "config", "path").stdout == f"{place}\n"
    assert run(tmp_path, "config", "init").returncode == 0
    assert place.stat().st_mode & 0o777 == 0o600 and place.parent.stat().st_mode & 0o777 == 0o700
    assert load(environ(tmp_path)) == load({**environ(tmp_path), "REPOSYNCD_CONFIG": os.devnull})
    place.write_text("[watch]\nsettle = 1\n")
    again = run(tmp_path, "config", "init")
    assert again.returncode == 1 and "was not changed" in again.stderr
    assert "settle = 1" in place.read_text()


def test_every_line_of_that_file_is_right_when_its_comment_sign_is_removed(tmp_path: Path) -> None:
    names = {key.name for key in KEYS}
    lines = [
        line[2:] if line.startswith("# ") and line[2:].split(" = ")[0] in names else line
        for line in template().splitlines()
    ]
    (tmp_path / "c.toml").write_text("\n".join(lines))
    given = {**environ(tmp_path), "REPOSYNCD_CONFIG": str(tmp_path / "c.toml")}
    assert load(given) == load({**given, "REPOSYNCD_CONFIG": os.devnull})
    assert sum(" = " in line and not line.startswith("#") for line in lines) == len(KEYS)


def test_the_page_of_all_keys_is_what_the_code_says() -> None:
    page = PROJECT / "docs" / "configuration.md"
    assert page.read_text() == reference()


def commands(group: click.Group, path: str = "reposyncd") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        assert found
        yield f"{path} {name}", found
        if isinstance(found, click.Group):
            yield from commands(found, f"{path} {name}")


@pytest.mark.parametrize(("path", "command"), list(commands(_group)))
def test_every_command_and_option_says_what_it_is_for(path: str, command: click.Command) -> None:
    assert command.help, path
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{path} {parameter.name}"


SUBCOMMANDS = [each for each in commands(_group) if len(each[0].split()) > 2]
SHOWN = 80 - len("  uninstall  ") - 2
"""Columns that click leaves for what a subcommand does."""


@pytest.mark.parametrize(("path", "command"), SUBCOMMANDS)
def test_the_list_of_subcommands_shows_the_whole_first_sentence(path: str, command: click.Command) -> None:
    assert not command.get_short_help_str(SHOWN).endswith("..."), path


def usages(readme: str) -> dict[str, str]:
    """Command to how it is called, from the table of commands. Of several in a row the first is named in full, and the
    others share all but its last word."""
    found: dict[str, str] = {}
    for row in re.findall(r"^\| (`reposyncd .*?) \| ", readme, re.MULTILINE):
        parent: list[str] = []
        for usage in re.findall(r"`(.*?)`", row.replace("\\|", "/")):
            words = usage.split()
            name = list(takewhile(lambda word: re.fullmatch("[a-z]+", word), words))
            parent = parent or name[:-1]
            found[" ".join(name if words[0] == "reposyncd" else [*parent, *name])] = usage
    return found


@pytest.mark.parametrize(("path", "command"), list(commands(_group)))
def test_every_command_and_option_is_in_the_readme(path: str, command: click.Command) -> None:
    if isinstance(command, click.Group):
        return
    usage = usages((PROJECT / "README.md").read_text()).get(path)
    assert usage, f"{path} is missing in the table of commands"
    known = set(re.findall(r"--?[a-z-]+", usage))
    for option in command.params:
        if isinstance(option, click.Option):
            assert known & {*option.opts}, f"{path} {option.opts} is missing in the table of commands"
            known -= {*option.opts}
    assert not known, f"{path} has no {known}"


PAGES = sorted([PROJECT / "README.md", PROJECT / "CHANGELOG.md", *(PROJECT / "docs").glob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_between_pages_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / link).exists(), link


def test_every_state_and_every_key_that_is_named_is_known() -> None:
    page = (PROJECT / "docs" / "operate.md").read_text()
    for state in STATES:
        assert f"\n| `{state}` | " in page
    for section, name in re.findall(r"`([a-z]+)\.([a-z_]+)`", page):
        assert f"{section}.{name}" in {key.path for key in KEYS}


def test_every_code_of_an_error_is_in_the_documentation_of_the_api() -> None:
    page = (PROJECT / "docs" / "api.md").read_text()
    classes: list[type[ReposyncError]] = [ReposyncError]
    for each in classes:
        classes += each.__subclasses__()
        known = f"`{each.code}`" in page or each.code.startswith("store")
        assert known or failure(each("")).status == HTTPStatus.INTERNAL_SERVER_ERROR, each.code


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_commands_and_repositories(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    shelf = Shelf()
    shelf.roots = {"application": str(tmp_path / "app"), "other": str(tmp_path)}
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "reposyncd"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m reposyncd "$@"\n')
    program.chmod(0o755)

    def complete(*words: str) -> list[str]:
        script = (
            f'eval "$(reposyncd completion bash)"; COMP_WORDS=({" ".join(words)}); COMP_CWORD={len(words) - 1};'
            '_reposyncd_completion reposyncd; printf "%s\\n" "${COMPREPLY[@]}"'
        )
        env = environ(tmp_path, PATH=f"{tmp_path}/bin:{os.environ['PATH']}", REPOSYNCD_SOCKET=str(tmp_path / "s"))
        return subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True).stdout.split()

    assert complete("reposyncd", "st") == ["status"]
    assert complete("reposyncd", "flush", "app") == []  # nobody to ask
    with Api(shelf, str(tmp_path / "s"), state_dir=str(tmp_path / "state")):
        assert complete("reposyncd", "flush", "app") == ["application"]
        assert complete("reposyncd", "repo", "remove", "''") == ["application", "other"]


def test_a_live_status_shows_what_changes_outlives_the_daemon_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    shelf = Shelf()
    shelf.roots = {"lab": str(tmp_path / "tree")}
    ours, theirs = pty.openpty()
    env = environ(tmp_path, REPOSYNCD_SOCKET=str(tmp_path / "s"), TERM="xterm")
    seen = bytearray()

    def sees(text: bytes) -> bool:
        os.set_blocking(ours, False)
        with suppress(BlockingIOError):
            seen.extend(os.read(ours, 65_536))
        return text in seen

    with Api(shelf, str(tmp_path / "s"), state_dir=str(tmp_path / "state")):
        process = subprocess.Popen([*PROGRAM, "status", "--watch"], env=env, stdin=theirs, stdout=theirs, stderr=theirs)
        until(lambda: sees(b"current"), "it is shown")
        shelf.states["lab"] = "pending"
        until(lambda: sees(b"somebody made it pending"), "the change is shown")
    until(lambda: sees(b"not running"), "that the daemon is gone is shown")
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    os.close(ours)
    os.close(theirs)


def test_the_documented_commands_for_completion_and_the_link_work_in_a_home_that_has_no_directories(
    tmp_path: Path,
) -> None:
    page = (PROJECT / "docs" / "install.md").read_text()
    lines = [
        line for line in page.splitlines() if line.startswith(("reposyncd completion", "mkdir -p ~/", "ln -sf ~/"))
    ]
    assert sum("completion" in line for line in lines) >= 3
    assert any(line.startswith("ln -sf ~/") for line in lines)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    script = "set -e\n" + "\n".join(lines)
    done = subprocess.run(
        ["bash", "-c", script], env={"HOME": str(tmp_path), "PATH": path}, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    for shell, place in (
        ("bash", ".local/share/bash-completion/completions/reposyncd"),
        ("zsh", ".local/share/zsh/site-functions/_reposyncd"),
        ("fish", ".config/fish/completions/reposyncd.fish"),
    ):
        assert "_REPOSYNCD_COMPLETE" in (tmp_path / place).read_text(), shell
        assert f"~/{place}" in (completion.command.help or "")
