"""`reposyncd resume`: go on after a pause."""

from __future__ import annotations

import click

from reposyncd.cli.ask import complete_repo
from reposyncd.cli.pause import ask


@click.command("resume")
@click.argument("repo", required=False, shell_complete=complete_repo)
@click.option("--json", "as_json", is_flag=True, help="Print the names of the repositories as JSON.")
@click.pass_context
def command(ctx: click.Context, repo: str | None, as_json: bool) -> None:
    """Keep REPO (a name or a path; default: all) current again after `reposyncd pause`."""
    ask(ctx, "resume", repo, as_json)
