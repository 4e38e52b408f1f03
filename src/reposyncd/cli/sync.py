"""`reposyncd sync`: bring the index of a directory up to date."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from reposyncd.cli import load_config
from reposyncd.cli.ask import client_of
from reposyncd.cli.output import say
from reposyncd.cli.progress import Reporter, progress_of
from reposyncd.cli.stop import Stop
from reposyncd.errors import DaemonNotRunningError, InterruptedSyncError
from reposyncd.text import printable

if TYPE_CHECKING:
    from reposyncd.config import Config

_ERRORS_SHOWN = 10
"""Files named on the terminal; --json names all."""


@click.command("sync")
@click.argument("path", default=".", type=click.Path())
@click.option("--name", help="The repository's name in the index  [default: the directory's]")
@click.option("--full", is_flag=True, help="Read every file and compare every record, trusting nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_context
def command(ctx: click.Context, path: str, name: str | None, full: bool, as_json: bool) -> None:
    """SyncJob the index of the directory PATH up to date, and return when it is.

    The first time everything in it is read, cut into chunks, embedded and stored; afterwards only what changed.
    Ctrl-C stops at any moment; the next sync goes on from there. Where the daemon runs it does the work, and goes on
    with it.
    """
    config = load_config(ctx)
    try:
        result = _ask(config, path, name, full)
    except DaemonNotRunningError:
        result = _sync(config, path, name, full)
    if as_json:
        import json

        say(json.dumps(result))
    else:
        _summarise(result)
    if result["errors"]:
        sys.exit(1)


def _ask(config: Config, path: str, name: str | None, full: bool) -> dict[str, Any]:
    body = {"path": os.path.realpath(path), "name": name, "full": full}
    try:
        with Reporter(sys.stderr) as report:
            return client_of(config).request("POST", "/v1/sync", body, lambda told: report(progress_of(told)))
    except KeyboardInterrupt:
        raise InterruptedSyncError(
            "the daemon goes on with the sync; follow it with: reposyncd status --watch"
        ) from None


def _sync(config: Config, path: str, name: str | None, full: bool) -> dict[str, Any]:
    from reposyncd.app.workspace import Workspace

    with Stop() as stop, Workspace(config) as workspace, Reporter(sys.stderr) as report:
        return workspace.sync(path, name, full=full, on_progress=report, should_stop=stop).to_dict()


def _summarise(result: dict[str, Any]) -> None:
    files, chunks, errors = result["files"], result["chunks"], result["errors"]
    took = _seconds(result["duration_s"])
    say(f"{result['repo']}: {files['total']:,} files, {chunks['total']:,} chunks are indexed ({took})")
    if files["new"] or files["modified"] or files["deleted"] or chunks["relabelled"]:
        say(f"  files   {files['new']:,} new, {files['modified']:,} modified, {files['deleted']:,} deleted")
        say(
            f"  chunks  {chunks['added']:,} added ({chunks['embedded']:,} embedded), {chunks['relabelled']:,} moved, "
            f"{chunks['deleted']:,} deleted"
        )
    else:
        say("  nothing changed")
    if files["skipped"]:
        reasons = ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in files["skipped"].items())
        say(f"  skipped {reasons}")
    if files.get("plain"):
        say(f"  plain   {files['plain']:,} cut as plain lines, not as code; see: reposyncd status")
    for error in errors[:_ERRORS_SHOWN]:
        say(f"  not indexed: {printable(error['path'])}: {printable(error['error'])}", err=True)
    if len(errors) > _ERRORS_SHOWN:
        say(f"  not indexed: {len(errors) - _ERRORS_SHOWN:,} more; see --json", err=True)


def _seconds(duration_s: float) -> str:
    return f"{duration_s:.2f} s" if duration_s < 10 else f"{duration_s:.0f} s"
