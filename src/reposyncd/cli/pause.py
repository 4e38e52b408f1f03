"""`reposyncd pause`: stops updating an index for a while."""

from __future__ import annotations

import click

from reposyncd.cli import connect
from reposyncd.cli.arguments import REPO
from reposyncd.cli.output import say


@click.command("pause")
@click.argument("repo", required=False, type=REPO)
@click.option("--json", "as_json", is_flag=True, help="Print the names of the repositories as JSON.")
@click.pass_context
def command(ctx: click.Context, repo: str | None, as_json: bool) -> None:
    """Stop updating the index of REPO (a name or a path; default: all) until `reposyncd resume`."""
    result = connect(ctx).pause(repo).result()
    if as_json:
        import json

        say(json.dumps(result))
        return
    for name in result["repos"]:
        say(f"{name}: paused; resume with: reposyncd resume {name}")
