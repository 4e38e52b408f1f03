"""`reposyncd flush`: wait until the index has every change."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from reposyncd.cli import connect
from reposyncd.cli.arguments import REPO
from reposyncd.cli.output import say
from reposyncd.errors import TimedOutError
from reposyncd.text import printable

if TYPE_CHECKING:
    from reposyncd.app.messages import FileError, TaskProgress

_PATHS_SHOWN = 5
"""How many paths of a repository are printed: enough to see what is pending. --json prints more."""

_ERRORS_SHOWN = 10
"""How many files that could not be indexed are printed. --json prints all of them."""


@click.command("flush")
@click.argument("repo", required=False, type=REPO)
@click.option(
    "--timeout",
    type=click.FloatRange(0, 86_400),
    default=60.0,
    show_default=True,
    metavar="S",
    help="How many seconds to wait at most.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was done, or what is still pending, as JSON.")
@click.pass_context
def command(ctx: click.Context, repo: str | None, timeout: float, as_json: bool) -> None:
    """Return when every earlier change to REPO (a name or a path; default: all) is in the index.

    Exit code 1: it timed out, or a file could not be indexed. 3: the service is not running.
    """
    last: TaskProgress | None = None

    def on_progress(progress: TaskProgress) -> None:
        nonlocal last
        last = progress

    try:
        result = connect(ctx).flush(repo).result(on_progress, timeout)
    except TimedOutError:
        if as_json:
            _print_json({"repos": [], "errors": [], "pending": last["pending"] if last else []})
        else:
            _show_unfinished(last, timeout)
        sys.exit(1)
    if as_json:
        _print_json(result)
    else:
        _show_done(result["repos"], result["errors"])
    if result["errors"]:
        sys.exit(1)


def _print_json(result: object) -> None:
    import json

    say(json.dumps(result))


def _show_done(repos: list[str], errors: list[FileError]) -> None:
    what = "every change is in the index" + (", except files that cannot be read" if errors else "")
    for name in repos:
        say(f"{name}: {what}")
    for error in errors[:_ERRORS_SHOWN]:
        say(f"  not indexed: {printable(error['path'])}: {printable(error['error'])}", err=True)
    if len(errors) > _ERRORS_SHOWN:
        say(f"  not indexed: {len(errors) - _ERRORS_SHOWN:,} more; see --json", err=True)


def _show_unfinished(progress: TaskProgress | None, timeout_s: float) -> None:
    say(f"reposyncd: timed out after {timeout_s:g} s; the service continues", err=True)
    if progress is None:
        return
    for each in progress["pending"]:
        say(f"  {each['repo']}: {_paths(each['paths'])}: {printable(each['why'])}", err=True)
    if progress["trouble"]:
        say(f"  {printable(progress['trouble'])}", err=True)


def _paths(paths: list[str]) -> str:
    """The first paths, and how many more there are."""
    more = f" and {len(paths) - _PATHS_SHOWN:,} more" if len(paths) > _PATHS_SHOWN else ""
    return (", ".join(printable(path) or "." for path in paths[:_PATHS_SHOWN]) or "the whole tree") + more
