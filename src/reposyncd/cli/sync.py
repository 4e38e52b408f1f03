"""`reposyncd sync`: brings the index of a directory up to date."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from reposyncd.cli import connect
from reposyncd.cli.output import say
from reposyncd.cli.progress import Reporter
from reposyncd.text import printable

if TYPE_CHECKING:
    from reposyncd.app.messages import SyncResult

_ERRORS_SHOWN = 10
"""How many files that could not be indexed are printed. --json prints all of them."""


@click.command("sync")
@click.argument("path", default=".", type=click.Path())
@click.option("--name", help="The repository's name in the index  [default: the name of the directory]")
@click.option("--full", is_flag=True, help="Read every file and compare every record; trust nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_context
def command(ctx: click.Context, path: str, name: str | None, full: bool, as_json: bool) -> None:
    """Bring the index of the directory PATH up to date, and return when that is done.

    The first sync reads, cuts, embeds and stores every file. Later ones only do what has changed. You can press Ctrl-C
    at any moment: the next sync continues from there. If the service is running, it does the work, and Ctrl-C does not
    stop it.
    """
    with Reporter(sys.stderr) as report:
        result = connect(ctx).sync(os.path.realpath(path), name, full).result(report)
    if as_json:
        import json

        say(json.dumps(result))
    else:
        _summarise(result)
    if result["errors"]:
        sys.exit(1)


def _summarise(result: SyncResult) -> None:
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
