"""`reposyncd search`: finds code by meaning."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from reposyncd.cli import connect
from reposyncd.cli.arguments import REPO
from reposyncd.text import printable

if TYPE_CHECKING:
    from reposyncd.app.messages import Hit

_LINES_SHOWN = 8
"""How many lines of a chunk are printed: enough to recognise it. --json prints all of them."""


@click.command("search")
@click.argument("query", nargs=-1, required=True)
@click.option("--repo", type=REPO, help="Search only in this repository  [default: in all]")
@click.option("-n", "--limit", type=click.IntRange(1, 1000), default=5, show_default=True, help="Results to show.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON, with the whole chunks.")
@click.pass_context
def command(ctx: click.Context, query: tuple[str, ...], repo: str | None, limit: int, as_json: bool) -> None:
    """Print the chunks of code whose meaning is nearest to QUERY, best first."""
    if not " ".join(query).strip():
        raise click.UsageError("QUERY is blank; enter what to look for")
    found = connect(ctx).search(" ".join(query), repo, limit).result()
    for notice in found["notices"]:
        click.echo(f"reposyncd: {printable(notice['repo'])}: {printable(notice['text'])}", err=True)
    if as_json:
        import json

        click.echo(json.dumps(found["hits"]))
        return
    if not found["hits"]:
        click.echo("nothing found")
    for rank, hit in enumerate(found["hits"], 1):
        _show(rank, hit)


def _show(rank: int, hit: Hit) -> None:
    where = click.style(f"{printable(hit['path'])}:{hit['start_line']}-{hit['end_line']}", fg="cyan")
    symbol = f"  {click.style(printable(hit['symbol']), bold=True)}" if hit["symbol"] else ""
    click.echo(f"{rank}. {hit['repo']}  {where}{symbol}  {hit['score']:.2f}")
    lines = [line for line in hit["text"].split("\n") if line.strip()]
    for line in lines[:_LINES_SHOWN]:
        click.echo(f"   | {printable(line)}")
    if len(lines) > _LINES_SHOWN:
        click.echo(f"   | ... {len(lines) - _LINES_SHOWN} more lines")
    click.echo()
