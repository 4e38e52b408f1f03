"""`reposyncd repo`: adds, removes and lists the directories that are indexed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from reposyncd.cli import connect
from reposyncd.cli.arguments import REPO
from reposyncd.cli.output import say
from reposyncd.errors import StoreError
from reposyncd.text import printable

if TYPE_CHECKING:
    from reposyncd.app.messages import RepoRef


@click.group("repo")
def command() -> None:
    """Add, remove and list the directories that are indexed."""


@command.command("add")
@click.argument("path", type=click.Path())
@click.option("--name", help="The repository's name in the index  [default: the name of the directory]")
@click.option("--json", "as_json", is_flag=True, help="Print name and root as JSON.")
@click.pass_context
def add(ctx: click.Context, path: str, name: str | None, as_json: bool) -> None:
    """Keep the directory PATH indexed.

    If the service is not running, PATH is only recorded. The service indexes it when it starts. You can also run
    `reposyncd sync PATH`.
    """
    result = connect(ctx).add(os.path.realpath(path), name).result()
    _print(result, f"{result['name']}: now tracking {printable(result['root'])}", as_json)


@command.command("remove")
@click.argument("repo", type=REPO)
@click.option("--json", "as_json", is_flag=True, help="Print name and root as JSON.")
@click.pass_context
def remove(ctx: click.Context, repo: str, as_json: bool) -> None:
    """Stop indexing REPO (a name or a path) and delete its index. Your files are not touched."""
    result = connect(ctx).remove(repo).result()
    _print(result, f"{result['name']}: no longer tracking {printable(result['root'])}", as_json)


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print the repositories as JSON.")
@click.pass_context
def list_repos(ctx: click.Context, as_json: bool) -> None:
    """List the indexed repositories with their states and roots.

    If the service is not running, the states are those of the last sync.
    """
    report = connect(ctx).status()
    repos, service = report["repos"], report["daemon"]
    if not service["running"]:
        if not repos and not report["store"]["healthy"]:
            raise StoreError(report["store"]["reason"])
        if service["state"] != "not running":
            click.echo(f"reposyncd: {printable(service['state'])}; the states are those of the last sync", err=True)
    if as_json:
        import json

        click.echo(json.dumps(repos))
        return
    if not repos:
        click.echo("nothing is indexed yet; index a directory with: reposyncd sync PATH")
    for repo in repos:
        click.echo(f"{repo['name']}  {repo['state']}  {printable(repo['root'])}")


def _print(result: RepoRef, text: str, as_json: bool) -> None:
    if as_json:
        import json

        say(json.dumps(result))
    else:
        say(text)
