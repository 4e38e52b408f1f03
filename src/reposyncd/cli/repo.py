"""`reposyncd repo`: which trees are kept."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from reposyncd import __version__
from reposyncd.cli import load_config
from reposyncd.cli.ask import client_of, complete_repo, meant
from reposyncd.cli.output import say
from reposyncd.errors import DaemonNotRunningError, StoreError
from reposyncd.text import printable

if TYPE_CHECKING:
    from reposyncd.config import Config


@click.group("repo")
def command() -> None:
    """Add, remove and list the directories that are kept indexed."""


@command.command("add")
@click.argument("path", type=click.Path())
@click.option("--name", help="The repository's name in the index  [default: the directory's]")
@click.option("--json", "as_json", is_flag=True, help="Print name and root as JSON.")
@click.pass_context
def add(ctx: click.Context, path: str, name: str | None, as_json: bool) -> None:
    """Keep the directory PATH indexed from now on.

    Where no daemon runs, PATH is only recorded: the next daemon indexes it, or `reposyncd sync PATH` does.
    """
    import os

    config = load_config(ctx)
    running = True
    try:
        result = client_of(config).request("POST", "/v1/repos", {"path": os.path.realpath(path), "name": name})
    except DaemonNotRunningError:
        running = False
        result = _note(config, path, name)
    verb = "is kept from now on" if running else "is noted; the daemon is not running. Index it with: reposyncd sync"
    _print(result, verb if running else f"{verb} {result['root']}", as_json)


@command.command("remove")
@click.argument("repo", shell_complete=complete_repo)
@click.option("--json", "as_json", is_flag=True, help="Print name and root as JSON.")
@click.pass_context
def remove(ctx: click.Context, repo: str, as_json: bool) -> None:
    """Forget REPO (a name or a path) and drop its index. The files are not touched."""
    from reposyncd.app.client import quote

    config = load_config(ctx)
    try:
        result = client_of(config).request("DELETE", f"/v1/repos/{quote(meant(repo) or repo)}")
    except DaemonNotRunningError:
        result = _forget(config, meant(repo) or repo)
    _print(result, "is no longer kept", as_json)


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print the repositories as JSON.")
@click.pass_context
def list_repos(ctx: click.Context, as_json: bool) -> None:
    """List the repositories that are kept indexed.

    Each with its state and root. Where no daemon runs, the states are those of the last sync.
    """
    repos = _repos(load_config(ctx))
    if as_json:
        import json

        click.echo(json.dumps(repos))
        return
    if not repos:
        click.echo("nothing is indexed yet; index a directory with: reposyncd sync PATH")
    for repo in repos:
        click.echo(f"{repo['name']}  {repo['state']}  {printable(repo['root'])}")


def _repos(config: Config) -> list[dict[str, Any]]:
    try:
        return list(client_of(config).request("GET", "/v1/repos")["repos"])
    except DaemonNotRunningError:
        from reposyncd.app.stores import store_status
        from reposyncd.sync.status import status

        report = status(config.state_dir, time.time_ns(), __version__, store_status(config.state_dir))
        if not report["repos"] and not report["store"]["healthy"]:
            raise StoreError(report["store"]["reason"]) from None
        return list(report["repos"])


def _note(config: Config, path: str, name: str | None) -> dict[str, Any]:
    from reposyncd.app.workspace import Workspace
    from reposyncd.store.locks import state_lock
    from reposyncd.sync.repos import add, find, root_of

    root = root_of(path, config.state_dir)
    with Workspace(config) as workspace, state_lock(config.state_dir, config.lock.timeout):
        repo = find(workspace.catalog, root, name) or add(workspace.catalog, root, name)
    return {"name": repo.name, "root": repo.root}


def _forget(config: Config, repo: str) -> dict[str, Any]:
    from reposyncd.app.workspace import Workspace

    with Workspace(config) as workspace:
        removed, trouble = workspace.remove(repo)
    if trouble:
        say(
            f"reposyncd: {removed.name} is removed; its records could not be deleted yet ({printable(trouble)}). "
            "The next sync deletes them, or the service",
            err=True,
        )
    return {"name": removed.name, "root": removed.root}


def _print(result: dict[str, Any], what: str, as_json: bool) -> None:
    if as_json:
        import json

        say(json.dumps(result))
    else:
        say(f"{result['name']}: {printable(result['root'])} {printable(what)}")
