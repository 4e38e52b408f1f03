"""`reposyncd flush`: wait until the index has every change."""

from __future__ import annotations

import sys
from typing import Any

import click

from reposyncd.cli import load_config
from reposyncd.cli.ask import client_of, complete_repo, meant
from reposyncd.cli.output import say
from reposyncd.errors import TimedOutError
from reposyncd.text import printable

_PATHS_SHOWN = 5
"""Of a repository's: enough to see what it is about. --json has all."""

_ERRORS_SHOWN = 10


@click.command("flush")
@click.argument("repo", required=False, shell_complete=complete_repo)
@click.option(
    "--timeout",
    type=click.FloatRange(0, 86_400),
    default=60.0,
    show_default=True,
    metavar="S",
    help="Seconds to wait at most.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was done, or is still pending, as JSON.")
@click.pass_context
def command(ctx: click.Context, repo: str | None, timeout: float, as_json: bool) -> None:
    """Return when every change that was made to REPO (a name or a path; default: to all) is in the index.

    Exit code 1: some of it is not, because the time was over or a file could not be indexed. 3: the daemon is not
    running.
    """
    last: dict[str, Any] = {}
    try:
        result = client_of(load_config(ctx)).request(
            "POST", "/v1/flush", {"repo": meant(repo)}, on_progress=last.update, timeout_s=timeout
        )
    except TimedOutError:
        result = {"repos": [], "errors": [], "pending": last.get("pending", [])}
        _print(result, last, timeout, as_json)
        sys.exit(1)
    _print(result, None, timeout, as_json)
    if result["errors"]:
        sys.exit(1)


def _print(result: dict[str, Any], unfinished: dict[str, Any] | None, timeout_s: float, as_json: bool) -> None:
    if as_json:
        import json

        say(json.dumps(result))
        return
    what = "every change is in the index" + (", but for what cannot be read" if result["errors"] else "")
    for name in result["repos"]:
        say(f"{name}: {what}")
    for error in result["errors"][:_ERRORS_SHOWN]:
        say(f"  not indexed: {printable(error['path'])}: {printable(error['error'])}", err=True)
    if len(result["errors"]) > _ERRORS_SHOWN:
        say(f"  not indexed: {len(result['errors']) - _ERRORS_SHOWN:,} more; see --json", err=True)
    if unfinished is not None:
        say(f"reposyncd: not everything is in the index after {timeout_s:g} s; the daemon goes on", err=True)
        for each in result["pending"]:
            say(f"  {each['repo']}: {_pending(each['paths'])}: {printable(each['why'])}", err=True)
        if unfinished.get("trouble"):
            say(f"  {printable(unfinished['trouble'])}", err=True)


def _pending(paths: list[str] | int) -> str:
    """The first paths, or how many there are where they are not named."""
    if isinstance(paths, int):
        return f"{paths:,} paths"
    more = f" and {len(paths) - _PATHS_SHOWN:,} more" if len(paths) > _PATHS_SHOWN else ""
    return (", ".join(printable(path) or "." for path in paths[:_PATHS_SHOWN]) or "the whole tree") + more
