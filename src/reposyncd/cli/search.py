"""`reposyncd search`: find code by meaning."""

from __future__ import annotations

from dataclasses import asdict

import click

from reposyncd.assemble import Workspace
from reposyncd.cli import load_config
from reposyncd.cli.text import printable
from reposyncd.model import Hit

_LINES_SHOWN = 8
"""Of a chunk: enough to recognise it. --json has all."""


@click.command("search")
@click.argument("query", nargs=-1, required=True)
@click.option("--repo", help="Only in this repository  [default: in all]")
@click.option("-n", "--limit", type=click.IntRange(1, 1000), default=5, show_default=True, help="Results.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON, with the whole chunks.")
@click.pass_context
def command(ctx: click.Context, query: tuple[str, ...], repo: str | None, limit: int, as_json: bool) -> None:
    """Find the chunks of code whose meaning is nearest to QUERY, best first."""
    with Workspace(load_config(ctx)) as workspace:
        hits = workspace.search(" ".join(query), repo, limit)
    if as_json:
        import json

        click.echo(json.dumps([asdict(hit) for hit in hits]))
        return
    if not hits:
        click.echo("nothing found")
    for rank, hit in enumerate(hits, 1):
        _show(rank, hit)


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
