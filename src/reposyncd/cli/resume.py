"""`reposyncd resume`: continues updating an index after a pause."""

from __future__ import annotations

import click

from reposyncd.cli import connect
from reposyncd.cli.arguments import REPO
from reposyncd.cli.output import say


@click.command("resume")
@click.argument("repo", required=False, type=REPO)
@click.option("--json", "as_json", is_flag=True, help="Print the names of the repositories as JSON.")
@click.pass_context
def command(ctx: click.Context, repo: str | None, as_json: bool) -> None:
    """Continue updating the index of REPO (a name or a path; default: all) after `reposyncd pause`."""
    result = connect(ctx).resume(repo).result()
    if as_json:
        import json

        say(json.dumps(result))
        return
    for name in result["repos"]:
        say(f"{name}: resumed")
