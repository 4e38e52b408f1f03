"""`reposyncd history`: shows the last syncs."""

from __future__ import annotations

from datetime import datetime

import click

from reposyncd.cli import connect
from reposyncd.cli.arguments import REPO
from reposyncd.text import printable


@click.command("history")
@click.argument("repo", required=False, type=REPO)
@click.option("-n", "--limit", type=click.IntRange(1, 1000), default=10, show_default=True, help="How many to show.")
@click.option("--json", "as_json", is_flag=True, help="Print the syncs as JSON.")
@click.pass_context
def command(ctx: click.Context, repo: str | None, limit: int, as_json: bool) -> None:
    """Show the last syncs of REPO (a name or a path; default: all) that had something to do, newest first."""
    runs = connect(ctx).runs(repo, limit)["runs"]
    if as_json:
        import json

        click.echo(json.dumps(runs))
        return
    for run in runs:
        started = datetime.fromtimestamp(run["started_ns"] / 1e9).isoformat(" ", "seconds")
        took = "" if run["finished_ns"] is None else f", {(run['finished_ns'] - run['started_ns']) / 1e9:,.1f} s"
        click.echo(
            f"{started}  {run['repo']}  {run['kind']} {run['outcome']}, {run['files_done']:,} of "
            f"{run['files_total']:,} files, {run['chunks_done']:,} chunks added{took}"
        )
        if run["error"]:
            click.echo(f"  {printable(run['error'])}")
