"""`reposyncd pause`: leave an index as it is for a while."""

from __future__ import annotations

import click

from reposyncd.cli import load_config
from reposyncd.cli.ask import client_of, complete_repo, meant
from reposyncd.cli.output import say


@click.command("pause")
@click.argument("repo", required=False, shell_complete=complete_repo)
@click.option("--json", "as_json", is_flag=True, help="Print the names of the repositories as JSON.")
@click.pass_context
def command(ctx: click.Context, repo: str | None, as_json: bool) -> None:
    """Leave the index of REPO (a name or a path; default: of all) as it is until `reposyncd resume`."""
    ask(ctx, "pause", repo, as_json)


def ask(ctx: click.Context, verb: str, repo: str | None, as_json: bool) -> None:
    """Asks the daemon to pause or to resume, and says which repositories it did."""
    result = client_of(load_config(ctx)).request("POST", f"/v1/{verb}", {"repo": meant(repo)})
    if as_json:
        import json

        say(json.dumps(result))
        return
    for name in result["repos"]:
        say(f"{name}: {verb}d")
