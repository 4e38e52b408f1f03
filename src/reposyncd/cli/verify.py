"""`reposyncd verify`: manifest, store and files against each other."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from reposyncd.assemble import Workspace
from reposyncd.cli import load_config
from reposyncd.cli.ask import client_of, complete_repo
from reposyncd.cli.progress import Reporter
from reposyncd.cli.stop import Stop
from reposyncd.errors import BusyError
from reposyncd.text import printable

if TYPE_CHECKING:
    from reposyncd.sync.verify import Verification

_MEANING = {
    "damaged": "the store or the manifest is lost, or too damaged to be compared",
    "missing": "records are missing in the store",
    "unknown": "records in the store belong to no file",
    "altered": "records have another text or other metadata than their file",
    "vector": "vectors are not those of their text",
    "stale": "files have another content than was indexed, with the same size and times",
}


@click.command("verify")
@click.argument("repo", required=False, shell_complete=complete_repo)
@click.option("--repair", is_flag=True, help="Make right what is wrong.")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
@click.pass_context
def command(ctx: click.Context, repo: str | None, repair: bool, as_json: bool) -> None:
    """Compare every record of REPO (a name or a path; default: of all) with its file, and every file with the index.

    Reads everything; of the vectors a sample is computed again. Exit code 0: all is right; 1: something was wrong,
    repaired or not.
    """
    config = load_config(ctx)
    if client_of(config).running():
        raise BusyError(
            "the daemon is at work on the index, and verify needs it alone; stop the daemon first. "
            "For one repository, this reads every file and compares every record too: reposyncd sync --full PATH"
        )
    with Stop() as stop, Workspace(config) as workspace, Reporter(sys.stderr) as report:
        found = workspace.verify(repo, repair=repair, on_progress=report, should_stop=stop)
    if as_json:
        import json

        click.echo(json.dumps([each.to_dict() for each in found]))
    else:
        for each in found:
            _show(each)
    if any(each.counts or each.errors for each in found):
        sys.exit(1)


def _show(found: Verification) -> None:
    verdict = "all is right"
    if found.counts:
        verdict = "repaired" if found.repaired else "something is wrong; mend it with: reposyncd verify --repair"
    click.echo(
        f"{found.repo}: {found.records:,} records, {found.files:,} files, {found.vectors:,} vectors compared: {verdict}"
    )
    for kind, count in found.counts.items():
        click.echo(f"  {_MEANING[kind]}" if kind == "damaged" else f"  {count:,} {_MEANING[kind]}")
    for problem in found.problems:
        what = f" {problem.id}" if problem.id else ""
        click.echo(f"    {problem.kind}{what} {printable(problem.path)}".rstrip())
    if found.pending:
        click.echo(f"  {found.pending:,} files changed since the last sync")
    for error in found.errors:
        click.echo(f"  not read: {printable(error.path)}: {printable(error.error)}", err=True)
