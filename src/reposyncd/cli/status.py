"""`reposyncd status`: shows what is indexed, how current it is, and what is wrong."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

import click

from reposyncd.app.health import FAILS_CHECK, Kind, conditions
from reposyncd.cli import connect
from reposyncd.cli.arguments import REPO
from reposyncd.cli.output import say
from reposyncd.cli.overview import Line, fitted, overview, steady, troubles
from reposyncd.errors import DaemonNotRunningError

if TYPE_CHECKING:
    from reposyncd.app import messages
    from reposyncd.app.facade import App

_REDRAW_S = 0.5
"""How often --watch asks for the status."""

_PROGRESS_S = 5.0
"""How often --watch prints to a pipe while only the progress of a sync changes, in seconds."""

_CLEAR = "\x1b[H\x1b[J"
"""Moves the cursor to the top left and clears everything below it (ECMA-48)."""


@click.command("status")
@click.argument("repo", required=False, type=REPO)
@click.option("--watch", is_flag=True, help="Show it live until Ctrl-C; on a pipe, print it again when it changes.")
@click.option(
    "--check", is_flag=True, help="Print only what is wrong. Exit code 1 unless all is current, 3 without the service."
)
@click.option("--json", "as_json", is_flag=True, help="Print the status as JSON, as in docs/interface.md.")
@click.pass_context
def command(ctx: click.Context, repo: str | None, watch: bool, check: bool, as_json: bool) -> None:
    """Show what is indexed, how current it is, and what is wrong.

    If the service is not running, this shows the state at the last sync. Nothing is started.

    \b
      reposyncd status                      a line for each repository
      reposyncd status app --watch          one of them, live
      reposyncd status --check || echo stale
    """
    if watch and (check or as_json):
        raise click.UsageError("--watch cannot be combined with --check or --json")
    app = connect(ctx)
    if watch:
        _watch(app, repo)
        return
    report = _report(app, repo)
    if as_json:
        import json

        click.echo(json.dumps(report))
    elif not check:
        _show(overview(report, time.time()))
    if check:
        sys.exit(_verdict(report, quiet=as_json))


def _verdict(report: messages.Status, quiet: bool) -> int:
    """The exit code of --check. Prints what is wrong if it is not 0."""
    now = time.time()
    found = conditions(report, now)
    kinds = {each.kind for each in found}
    if kinds & FAILS_CHECK and not quiet:
        say("\n".join(troubles(found, now)))
    if Kind.SERVICE_NOT_RUNNING in kinds:
        return DaemonNotRunningError.exit_code
    return 1 if kinds & FAILS_CHECK else 0


def _watch(app: App, repo: str | None) -> None:
    if sys.stdout is None:  # the process has no output
        return
    show = _redraw if sys.stdout.isatty() else _Log()
    try:
        while True:
            show(_report(app, repo))
            if _is_unread(_REDRAW_S):
                raise BrokenPipeError
    except KeyboardInterrupt:
        return


def _redraw(report: messages.Status) -> None:
    """Clears the terminal and prints the report."""
    import shutil  # imported here, because it takes as long as the rest of the command

    width, height = shutil.get_terminal_size()
    click.echo(_CLEAR, nl=False)
    _show(fitted(overview(report, time.time()), width, height - 1))


class _Log:
    """Prints the whole report when something has changed, for a pipe or a file. Passing time is not a change, and the
    progress of a sync counts as one only every few seconds."""

    def __init__(self) -> None:
        self._state: object = None
        self._progress: object = None
        self._again = 0.0

    def __call__(self, report: messages.Status) -> None:
        state, progress = steady(report)
        now = time.monotonic()
        if state == self._state and (progress == self._progress or now < self._again):
            return
        if self._state is not None:
            click.echo()
        _show(overview(report, time.time()))
        self._state, self._progress, self._again = state, progress, now + _PROGRESS_S


def _is_unread(timeout_s: float) -> bool:
    """Waits for this time, or until the output is closed, and returns whether it was closed. Without this, a command
    whose output does not change would never notice."""
    import select

    poll = select.poll()
    poll.register(sys.stdout, 0)  # POLLERR and POLLHUP are always reported: the reader has closed the pipe
    return bool(poll.poll(timeout_s * 1000))


def _report(app: App, repo: str | None) -> messages.Status:
    """The status of one repository, or of all."""
    report = app.status()
    if repo is not None:
        report["repos"] = [each for each in report["repos"] if repo in (each["name"], each["root"])]
        if not report["repos"]:
            raise click.UsageError(f'there is no repository "{repo}"; see: reposyncd repo list')
    return report


def _show(lines: list[Line]) -> None:
    for line in lines:
        text = line.text
        if line.colour and line.end <= len(text):
            text = text[: line.start] + click.style(text[line.start : line.end], fg=line.colour) + text[line.end :]
        click.echo(text, color=False if os.environ.get("NO_COLOR") else None)
