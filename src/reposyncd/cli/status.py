"""`reposyncd status`: what is indexed, how current it is, and what is wrong."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

from reposyncd import __version__
from reposyncd.cli import load_config
from reposyncd.cli.text import ago, printable
from reposyncd.sync.status import status

_COLOURS = {"current": "green", "syncing": "cyan", "pending": "yellow", "missing": "yellow"}


@click.command("status")
@click.argument("repo", required=False)
@click.option("--check", is_flag=True, help="Exit with 1 unless everything is current.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.pass_context
def command(ctx: click.Context, repo: str | None, check: bool, as_json: bool) -> None:
    """Say what is indexed, how current it was when it was last synced, and what is wrong.

    Answers from what is on the disk; starts nothing and waits for nobody.
    """
    report = status(load_config(ctx).state_dir, time.time_ns(), __version__)
    if repo is not None:
        report["repos"] = [each for each in report["repos"] if repo in (each["name"], each["root"])]
        if not report["repos"]:
            raise click.UsageError(f'there is no repository "{repo}"')
    if as_json:
        import json

        click.echo(json.dumps(report))
    else:
        _show(report)
    if check and not (report["store"]["healthy"] and all(each["state"] == "current" for each in report["repos"])):
        sys.exit(1)


def _show(report: dict[str, Any]) -> None:
    if not report["repos"] and report["store"]["healthy"]:
        click.echo("nothing is indexed yet; index a directory with: reposyncd sync PATH")
    for repo in report["repos"]:
        _show_repo(repo)
    store = report["store"]
    if not store["healthy"]:
        click.echo(f"{click.style('degraded', fg='red')}: {printable(store['reason'])}")
    if store.get("lock", {}).get("held") and store["lock"]["waits"]:
        click.echo(f"the store is locked by process {store['lock']['holder']}")
    for incident in report["incidents"]:
        click.echo(
            f"{ago(time.time() - incident['at'])} ago the {incident['what']} was found damaged "
            f"({printable(incident['reason'])}). It was made anew; the damaged one is kept in "
            f"{printable(incident['place'])}, and can be deleted"
        )


def _show_repo(repo: dict[str, Any]) -> None:
    state = click.style(repo["state"], fg=_COLOURS.get(repo["state"], "red"))
    when = "never synced" if repo["synced_at"] is None else f"synced {ago(time.time() - repo['synced_at'])} ago"
    click.echo(f"{repo['name']}: {state}, {repo['files']:,} files, {repo['chunks']:,} chunks, {when}")
    click.echo(f"  {printable(repo['root'])}")
    if repo["progress"]:
        progress = repo["progress"]
        click.echo(f"  {progress['done']:,} of {progress['total']:,} files done, {progress['chunks']:,} chunks stored")
    if repo["waiting"]:
        click.echo(f"  waiting for {ago(repo['waiting']['for_s'])}: {printable(repo['waiting']['reason'])}")
    elif repo["reason"] and repo["state"] != "current":
        click.echo(f"  {printable(repo['reason'])}")
    for path in repo["quarantined"]:
        click.echo(f"  quarantined until it changes: {printable(path)}")
