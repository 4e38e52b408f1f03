"""`reposyncd config`: show the effective configuration, or create a configuration file."""

from __future__ import annotations

import json
import os
from typing import Any

import click

from reposyncd.cli import load_config
from reposyncd.cli.output import say
from reposyncd.config import KEYS, config_path, sources
from reposyncd.errors import ReposyncError
from reposyncd.text import printable


@click.group("config")
def command() -> None:
    """Show the configuration, or create a configuration file.

    No configuration is needed. The environment overrides the file, and the file overrides the defaults.
    """


@command.command("show")
@click.option("--json", "as_json", is_flag=True, help="Print {key: {value, from}} as JSON.")
@click.pass_context
def show(ctx: click.Context, as_json: bool) -> None:
    """Show every key, its value, and where the value comes from.

    A running service uses what it read when it started, or at the last `systemctl --user reload reposyncd`.
    """
    config = load_config(ctx)
    places = sources(os.environ)
    rows = {key.path: (key.of(config), places[key.path]) for key in KEYS}
    if as_json:
        click.echo(json.dumps({path: {"value": value, "from": place} for path, (value, place) in rows.items()}))
        return
    click.echo(f"state   {printable(config.state_dir)}\nsocket  {printable(config.socket)}\n")
    width = max(map(len, rows))
    for path, (value, place) in rows.items():
        click.echo(f"{path:<{width}}  {printable(toml(value))}  ({printable(place)})")


@command.command("path")
def path() -> None:
    """Print the path of the configuration file. The file need not exist."""
    click.echo(config_path(os.environ))


@command.command("init")
def init() -> None:
    """Create a configuration file.

    It lists every key with its default and its meaning, all commented out. An existing file is not changed.
    """
    place = config_path(os.environ)
    try:
        os.makedirs(os.path.dirname(place), mode=0o700, exist_ok=True)
        descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise ReposyncError(f"{place} already exists; it was not changed") from None
    except OSError as error:
        raise ReposyncError(f"{place} cannot be written: {error.strerror}") from error
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(template())
    say(f"created {printable(place)}; every key in it is commented out")


def template() -> str:
    """A configuration file with the default of every key, commented out."""
    lines = ["# reposyncd. Remove the # before a key to set it.", ""]
    section = ""
    for key in KEYS:
        if key.section != section:
            section = key.section
            lines += [f"[{section}]", ""]
        lines += [f"# {key.doc}", f"# Allowed: {key.allowed}.", f"# {key.name} = {toml(key.default)}", ""]
    return "\n".join(lines)


def reference() -> str:
    """docs/configuration.md."""
    lines = [_HEAD]
    section = ""
    for key in KEYS:
        if key.section != section:
            section = key.section
            lines += [
                f"\n## [{section}]\n",
                "| key | default | allowed | variable | meaning |",
                "| --- | --- | --- | --- | --- |",
            ]
        cells = (
            f"`{key.name}`",
            f"`{toml(key.default)}`",
            key.allowed,
            f"`{key.variable}`",
            key.doc.replace("<", "&lt;"),
        )
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines) + "\n"


_HEAD = """\
# Configuration

No configuration is needed. For each key, the environment overrides the file, and the file overrides the default. The
file is `$REPOSYNCD_CONFIG`, else `$XDG_CONFIG_HOME/reposyncd/config.toml` (by default
`~/.config/reposyncd/config.toml`). `reposyncd config init` creates one in which every key is commented out, and
`reposyncd config show` prints the values in effect and where each of them comes from.

Commands read the file each time. The service reads it when it starts, and on SIGHUP (`systemctl --user reload
reposyncd`). If the file has a mistake, the service does not start, and exits with code 78. On SIGHUP, it refuses a file
with a mistake, and keeps the old values.

This page is generated from `reposyncd.config.KEYS`:
`python -c "import reposyncd.cli.config as c; print(c.reference(), end='')"`."""


def toml(value: Any) -> str:
    """A value in the form in which it is written in the file."""
    if isinstance(value, tuple):
        return json.dumps(list(value), ensure_ascii=False)
    if isinstance(value, float):
        return f"{value:.10g}"
    return json.dumps(value, ensure_ascii=False)
