"""`reposyncd history`: the last syncs."""

from __future__ import annotations

from datetime import datetime

import click

from reposyncd.app.workspace import Workspace
from reposyncd.cli import load_config
from reposyncd.cli.ask import complete_repo
from reposyncd.text import printable


@click.command("history")
@click.argument("repo", required=False, shell_complete=complete_repo)
@click.option("-n", "--limit", type=click.IntRange(1, 1000), default=10, show_default=True, help="Runs.")
@click.option("--json", "as_json", is_flag=True, help="Print the runs as JSON.")
@click.pass_context
def command(ctx: click.Context, repo: str | None, limit: int, as_json: bool) -> None:
    """Show the last syncs of REPO (a name or a path; default: of all) that had something to do, newest first."""
    with Workspace(load_config(ctx)) as workspace:
        runs = workspace.history(repo, limit)
    if as_json:
        import json

        click.echo(json.dumps([run.to_dict(each) for each, run in runs]))
        return
    for each, run in runs:
        started = datetime.fromtimestamp(run.started_ns / 1e9).isoformat(" ", "seconds")
        took = "" if run.finished_ns is None else f", {(run.finished_ns - run.started_ns) / 1e9:,.1f} s"
        click.echo(
            f"{started}  {each.name}  {run.kind} {run.outcome}, {run.files_done:,} of {run.files_total:,} files, "
            f"{run.chunks_done:,} chunks added{took}"
        )
        if run.error:
            click.echo(f"  {printable(run.error)}")
