"""`reposyncd status`: what is indexed, how current it is, and what is wrong."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import click

from reposyncd import __version__
from reposyncd.cli import load_config
from reposyncd.cli.ask import client_of, meant
from reposyncd.cli.text import ago, printable
from reposyncd.errors import BusyError, DaemonLostError, DaemonNotRunningError

if TYPE_CHECKING:
    from reposyncd.config import Config

_COLOURS = {"current": "green", "syncing": "cyan", "pending": "yellow", "missing": "yellow", "paused": "yellow"}

_PATIENCE_S = 5.0
"""How long the daemon may take to answer; it answers in milliseconds."""

_LAG_S = 1.0
"""A shorter lag is that of any change, and not worth a word."""


@click.command("status")
@click.argument("repo", required=False)
@click.option("--check", is_flag=True, help="Exit with 1 unless everything is current.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.pass_context
def command(ctx: click.Context, repo: str | None, check: bool, as_json: bool) -> None:
    """Say what is indexed, how current it is, and what is wrong.

    The daemon answers, or what is on the disk where none runs: what was true at the last sync. Starts nothing.
    """
    report = _report(load_config(ctx))
    if repo is not None:
        known = (repo, meant(repo))
        report["repos"] = [each for each in report["repos"] if each["name"] in known or each["root"] in known]
        if not report["repos"]:
            raise click.UsageError(f'there is no repository "{repo}"')
    if as_json:
        import json

        click.echo(json.dumps(report))
    else:
        _show(report)
    if check and not (report["store"]["healthy"] and all(each["state"] == "current" for each in report["repos"])):
        sys.exit(1)


def _report(config: Config) -> dict[str, Any]:
    try:
        return client_of(config).request("GET", "/v1/status", timeout_s=_PATIENCE_S)
    except DaemonNotRunningError:
        trouble = ""
    except (DaemonLostError, BusyError) as error:
        trouble = str(error)
    from reposyncd.sync.status import status

    report = status(config.state_dir, time.time_ns(), __version__)
    if trouble:
        report["daemon"]["state"] = trouble
    return report


def _daemon(report: dict[str, Any]) -> str:
    daemon = report["daemon"]
    if not daemon["running"]:
        why = "not running" if daemon["state"] == "not running" else printable(daemon["state"])
        return f"daemon: {why}; this is what was true at the last sync"
    watched = sum((each.get("watch") or {}).get("directories", 0) for each in report["repos"])
    state = "" if daemon.get("state") in (None, "", "running") else f" ({daemon['state']})"
    return (
        f"daemon: running (pid {daemon['pid']}) for {ago(daemon['uptime_s'] or 0)}, watching {watched:,} directories"
        f"{printable(state)}"
    )


def _show(report: dict[str, Any]) -> None:
    click.echo(_daemon(report))
    if not report["repos"] and report["store"]["healthy"]:
        click.echo("nothing is indexed yet; index a directory with: reposyncd sync PATH")
    for repo in report["repos"]:
        _show_repo(repo)
    store = report["store"]
    if not store["healthy"]:
        click.echo(f"{click.style('degraded', fg='red')}: {printable(store['reason'])}")
    if store.get("lock", {}).get("held") and store["lock"]["waits"]:
        click.echo(f"the store is locked by process {store['lock']['holder']}")
    daemon = report["daemon"]
    if daemon.get("waits_for"):
        click.echo(f"first indexes wait: {printable(daemon['waits_for'])}")
    for problem in daemon.get("problems", []):
        click.echo(f"discovery: {printable(problem)}")
    for incident in report.get("incidents", []):
        click.echo(
            f"{ago(time.time() - incident['at'])} ago the {incident['what']} was found damaged "
            f"({printable(incident['reason'])}). It was made anew; the damaged one is kept in "
            f"{printable(incident['place'])}, and can be deleted"
        )


def _show_repo(repo: dict[str, Any]) -> None:
    state = click.style(repo["state"], fg=_COLOURS.get(repo["state"], "red"))
    when = "never synced" if repo.get("synced_at") is None else f"synced {ago(time.time() - repo['synced_at'])} ago"
    pending = f", {repo['pending']:,} pending" if repo.get("pending") else ""
    lag = f", {ago(repo['lag_s'])} behind" if (repo.get("lag_s") or 0) >= _LAG_S else ""
    click.echo(f"{repo['name']}: {state}, {repo['files']:,} files, {repo['chunks']:,} chunks{pending}{lag}, {when}")
    click.echo(f"  {printable(repo['root'])}")
    progress = repo.get("progress")
    if progress and not progress["total"]:
        click.echo("  listing files")
    elif progress:
        stored = f", {progress['chunks']:,} chunks stored" if "chunks" in progress else ""
        click.echo(f"  {progress['done']:,} of {progress['total']:,} files done{stored}")
    if repo.get("waiting"):
        click.echo(f"  waiting for {ago(repo['waiting']['for_s'])}: {printable(repo['waiting']['reason'])}")
    elif repo.get("reason") and repo["state"] != "current":
        click.echo(f"  {printable(repo['reason'])}")
    watch = repo.get("watch") or {}
    if watch.get("mode") == "poll":
        if watch["reason"] != repo.get("reason"):
            click.echo(f"  {printable(watch['reason'])}")
        click.echo("  what no event tells of is looked for now and then instead")
    for path in repo.get("quarantined", []):
        click.echo(f"  quarantined until it changes: {printable(path)}")
