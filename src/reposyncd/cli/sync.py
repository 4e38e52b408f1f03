"""`reposyncd sync`: bring the index of a directory up to date."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from reposyncd.assemble import Workspace
from reposyncd.cli import load_config
from reposyncd.cli.progress import Reporter
from reposyncd.cli.stop import Stop
from reposyncd.cli.text import printable

if TYPE_CHECKING:
    from reposyncd.model import SyncResult

_ERRORS_SHOWN = 10
"""Files named on the terminal; --json names all."""


@click.command("sync")
@click.argument("path", default=".")
@click.option("--name", help="The repository's name in the index  [default: the directory's]")
@click.option("--full", is_flag=True, help="Read every file and compare every record, trusting nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_context
def command(ctx: click.Context, path: str, name: str | None, full: bool, as_json: bool) -> None:
    """Bring the index of the directory PATH up to date, and return when it is.

    The first time everything in it is read, cut into chunks, embedded and stored; afterwards only what changed.
    Ctrl-C stops at any moment; the next sync goes on from there.
    """
    with Stop() as stop, Workspace(load_config(ctx)) as workspace, Reporter(sys.stderr) as report:
        result = workspace.sync(path, name, full=full, on_progress=report, should_stop=stop)
    if as_json:
        import json

        click.echo(json.dumps(result.to_dict()))
    else:
        _summarise(result)
    if result.errors:
        sys.exit(1)


def _summarise(result: SyncResult) -> None:
    files, chunks = result.files, result.chunks
    click.echo(
        f"{result.repo}: {files.total:,} files, {chunks.total:,} chunks are indexed ({_seconds(result.duration_s)})"
    )
    if files.new or files.modified or files.deleted or chunks.relabelled:
        click.echo(f"  files   {files.new:,} new, {files.modified:,} modified, {files.deleted:,} deleted")
        click.echo(
            f"  chunks  {chunks.added:,} added ({chunks.embedded:,} embedded), {chunks.relabelled:,} moved, "
            f"{chunks.deleted:,} deleted"
        )
    else:
        click.echo("  nothing changed")
    if files.skipped:
        reasons = ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in files.skipped.items())
        click.echo(f"  skipped {reasons}")
    for error in result.errors[:_ERRORS_SHOWN]:
        click.echo(f"  not indexed: {printable(error.path)}: {printable(error.error)}", err=True)
    if len(result.errors) > _ERRORS_SHOWN:
        click.echo(f"  not indexed: {len(result.errors) - _ERRORS_SHOWN:,} more; see --json", err=True)


def _seconds(duration_s: float) -> str:
    return f"{duration_s:.2f} s" if duration_s < 10 else f"{duration_s:.0f} s"
