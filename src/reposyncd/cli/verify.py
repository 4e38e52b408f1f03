"""`reposyncd verify`: compares manifest, store and files with each other."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from reposyncd.cli import connect
from reposyncd.cli.arguments import REPO
from reposyncd.cli.output import say
from reposyncd.cli.progress import Reporter
from reposyncd.text import printable

if TYPE_CHECKING:
    from reposyncd.app.messages import Verification

_MEANING = {
    "damaged": "the store or the manifest is lost, or too damaged to be compared",
    "missing": "records are missing from the store",
    "unknown": "records in the store belong to no file",
    "altered": "records differ from their file in text or metadata",
    "vector": "vectors do not belong to their text",
    "stale": "files have other content than was indexed, although size and times are the same",
}


@click.command("verify")
@click.argument("repo", required=False, type=REPO)
@click.option("--repair", is_flag=True, help="Repair what is wrong.")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
@click.pass_context
def command(ctx: click.Context, repo: str | None, repair: bool, as_json: bool) -> None:
    """Compare every record of REPO (a name or a path; default: all) with its file, and every file with the index.

    This reads everything, and computes a sample of the vectors again. If the service is running, it does this between
    its other work. Exit code 0: nothing is wrong; 1: something was wrong, even if it was repaired.
    """
    with Reporter(sys.stderr) as report:
        found = connect(ctx).verify(repo, repair).result(report)["repos"]
    if as_json:
        import json

        say(json.dumps(found))
    else:
        for each in found:
            _show(each)
    if any(each["counts"] or each["errors"] for each in found):
        sys.exit(1)


def _show(found: Verification) -> None:
    verdict = "nothing is wrong"
    if found["errors"] and not found["records"]:
        verdict = "failed"
    if found["counts"]:
        verdict = "repaired" if found["repaired"] else "something is wrong; repair it with: reposyncd verify --repair"
    say(
        f"{found['repo']}: {found['records']:,} records, {found['files']:,} files, {found['vectors']:,} vectors "
        f"compared: {verdict}"
    )
    for kind, count in found["counts"].items():
        say(f"  {_MEANING[kind]}" if kind == "damaged" else f"  {count:,} {_MEANING[kind]}")
    for problem in found["problems"]:
        what = f" {problem['id']}" if problem["id"] else ""
        say(f"    {problem['kind']}{what} {printable(problem['path'])}".rstrip())
    if found["pending"]:
        say(f"  {found['pending']:,} files changed since the last sync")
    for error in found["errors"]:
        say(f"  not read: {printable(error['path'] or found['root'])}: {printable(error['error'])}", err=True)
