"""`reposyncd search`: find code by meaning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING

import click

from reposyncd.cli import load_config
from reposyncd.cli.ask import client_of, meant
from reposyncd.errors import DaemonNotRunningError
from reposyncd.model import Hit
from reposyncd.text import printable

if TYPE_CHECKING:
    from reposyncd.config import Config

_LINES_SHOWN = 8
"""Of a chunk: enough to recognise it. --json has all."""


@click.command("search")
@click.argument("query", nargs=-1, required=True)
@click.option("--repo", help="Only in this repository  [default: in all]")
@click.option("-n", "--limit", type=click.IntRange(1, 1000), default=5, show_default=True, help="Results.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON, with the whole chunks.")
@click.pass_context
def command(ctx: click.Context, query: tuple[str, ...], repo: str | None, limit: int, as_json: bool) -> None:
    """Print the chunks of code whose meaning is nearest to QUERY, best first."""
    if not " ".join(query).strip():
        raise click.UsageError("QUERY is blank; say what to look for")
    hits, notices = _search(load_config(ctx), " ".join(query), repo, limit)
    for name, text in notices:
        click.echo(f"reposyncd: {printable(name)}: {printable(text)}", err=True)
    if as_json:
        import json

        click.echo(json.dumps([asdict(hit) for hit in hits]))
        return
    if not hits:
        click.echo("nothing found")
    for rank, hit in enumerate(hits, 1):
        _show(rank, hit)


def _search(
    config: Config, query: str, repo: str | None, limit: int
) -> tuple[Sequence[Hit], Sequence[tuple[str, str]]]:
    """The hits, and what is to be said of repositories: the daemon's where one runs, which has the index open."""
    asked = {"query": query, "repo": meant(repo), "limit": limit}
    try:
        answer = client_of(config).request("POST", "/v1/search", asked)
    except DaemonNotRunningError:
        from reposyncd.app.workspace import Workspace

        with Workspace(config) as workspace:
            found = workspace.search(query, repo, limit)
        return found.hits, [(each.repo, each.text) for each in found.notices]
    names = [field.name for field in fields(Hit)]
    hits = [Hit(**{name: hit[name] for name in names}) for hit in answer["hits"]]
    return hits, [(each["repo"], each["text"]) for each in answer.get("notices", [])]


def _show(rank: int, hit: Hit) -> None:
    where = click.style(f"{printable(hit.path)}:{hit.start_line}-{hit.end_line}", fg="cyan")
    symbol = f"  {click.style(printable(hit.symbol), bold=True)}" if hit.symbol else ""
    click.echo(f"{rank}. {hit.repo}  {where}{symbol}  {hit.score:.2f}")
    lines = [line for line in hit.text.split("\n") if line.strip()]
    for line in lines[:_LINES_SHOWN]:
        click.echo(f"   | {printable(line)}")
    if len(lines) > _LINES_SHOWN:
        click.echo(f"   | ... {len(lines) - _LINES_SHOWN} more lines")
    click.echo()
