"""`reposyncd verify`: manifest, store and files against each other."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from reposyncd.app.workspace import Workspace
from reposyncd.cli import load_config
from reposyncd.cli.ask import client_of, complete_repo, meant
from reposyncd.cli.output import say
from reposyncd.cli.progress import Reporter, progress_of
from reposyncd.cli.stop import Stop
from reposyncd.errors import DaemonNotRunningError, InterruptedSyncError
from reposyncd.text import printable

if TYPE_CHECKING:
    from reposyncd.config import Config

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
@click.option("--repair", is_flag=True, help="Repair what is wrong.")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
@click.pass_context
def command(ctx: click.Context, repo: str | None, repair: bool, as_json: bool) -> None:
    """Compare every record of REPO (a name or a path; default: of all) with its file, and every file with the index.

    Reads everything; of the vectors a sample is computed again. Where the daemon runs it does the work, between its
    other work. Exit code 0: all is right; 1: something was wrong, repaired or not.
    """
    config = load_config(ctx)
    try:
        found = _ask(config, repo, repair)
    except DaemonNotRunningError:
        with Stop() as stop, Workspace(config) as workspace, Reporter(sys.stderr) as report:
            verified = workspace.verify(repo, repair=repair, on_progress=report, should_stop=stop)
        found = [each.to_dict() for each in verified]
    if as_json:
        import json

        say(json.dumps(found))
    else:
        for each in found:
            _show(each)
    if any(each["counts"] or each["errors"] for each in found):
        sys.exit(1)


def _ask(config: Config, repo: str | None, repair: bool) -> list[dict[str, Any]]:
    body = {"repo": meant(repo), "repair": repair}
    try:
        with Reporter(sys.stderr) as report:
            answer = client_of(config).request("POST", "/v1/verify", body, lambda told: report(progress_of(told)))
    except KeyboardInterrupt:
        raise InterruptedSyncError(
            "the daemon finishes it, but its result is discarded; run it again to see it"
        ) from None
    return list(answer["repos"])


def _show(found: dict[str, Any]) -> None:
    verdict = "all is right"
    if found["errors"] and not found["records"]:
        verdict = "it could not be"
    if found["counts"]:
        verdict = "repaired" if found["repaired"] else "something is wrong; mend it with: reposyncd verify --repair"
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
