"""`reposyncd status`: what is indexed, how current it is, and what is wrong."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from reposyncd import __version__
from reposyncd.cli import load_config
from reposyncd.cli.ask import client_of, complete_repo, meant
from reposyncd.cli.output import say
from reposyncd.cli.overview import Line, fitted, overview, steady, troubles
from reposyncd.errors import BusyError, DaemonLostError, DaemonNotRunningError

if TYPE_CHECKING:
    from reposyncd.config import Config

_PATIENCE_S = 5.0
"""How long the daemon may take to answer; it answers in milliseconds."""

_REDRAW_S = 0.5
"""Between two looks of --watch."""

_PROGRESS_S = 5.0
"""Between two blocks of --watch on a pipe, while only the progress of an index changes."""

_NOBODY = 3
"""Exit code of --check where no daemon runs: nothing is current that nobody keeps current."""

_CLEAR = "\x1b[H\x1b[J"
"""The cursor to the top left, and nothing below it (ECMA-48)."""


@click.command("status")
@click.argument("repo", required=False, shell_complete=complete_repo)
@click.option("--watch", is_flag=True, help="Go on showing it until Ctrl-C; on a pipe, whenever it changes.")
@click.option(
    "--check", is_flag=True, help="Print only what is wrong; exit with 1 unless all is current, 3 without a daemon."
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON; docs/interface.md has its form.")
@click.pass_context
def command(ctx: click.Context, repo: str | None, watch: bool, check: bool, as_json: bool) -> None:
    """Say what is indexed, how current it is, and what is wrong.

    The daemon answers, or what is on the disk where none runs: what was true at the last sync. Starts nothing.

    \b
      reposyncd status                      a line for each repository
      reposyncd status app --watch          one of them, live
      reposyncd status --check || echo stale
    """
    if watch and (check or as_json):
        raise click.UsageError("--watch goes with neither --check nor --json")
    config = load_config(ctx)
    if watch:
        _watch(config, repo)
        return
    report = _report(config, repo)
    if as_json:
        import json

        click.echo(json.dumps(report))
    elif not check:
        _show(overview(report, time.time()))
    if check:
        sys.exit(_verdict(report, quiet=as_json))


def _verdict(report: dict[str, Any], quiet: bool) -> int:
    """The exit code of --check; says why it is not 0."""
    stale = [each for each in report["repos"] if each["state"] != "current"]
    reasons = troubles(report, time.time())
    named = {reason.partition(":")[0] for reason in reasons}
    reasons += [f"{each['name']}: {each['state']}" for each in stale if each["name"] not in named]
    if not report["daemon"]["running"]:
        reasons.insert(0, "the daemon is not running")
    is_responsive = report["daemon"]["running"] and report["store"]["healthy"] and not stale
    if not is_responsive and not quiet:
        say("\n".join(reasons))
    if not report["daemon"]["running"]:
        return _NOBODY
    return 0 if is_responsive else 1


def _watch(config: Config, repo: str | None) -> None:
    if sys.stdout is None:  # nobody will ever read it
        return
    show = _redraw if sys.stdout.isatty() else _Log()
    try:
        while True:
            show(_report(config, repo))
            if _is_unread(_REDRAW_S):
                raise BrokenPipeError
    except KeyboardInterrupt:
        return


def _redraw(report: dict[str, Any]) -> None:
    """All of it, on a terminal that is cleared."""
    import shutil  # here, since it takes as long as the rest of the command

    width, height = shutil.get_terminal_size()
    click.echo(_CLEAR, nl=False)
    _show(fitted(overview(report, time.time()), width, height - 1))


class _Log:
    """All of it again when something has changed, for a pipe or a file. That time passes is no change, and a first
    index that goes on is one now and then."""

    def __init__(self) -> None:
        self._state: object = None
        self._progress: object = None
        self._again = 0.0

    def __call__(self, report: dict[str, Any]) -> None:
        state, progress = steady(report)
        now = time.monotonic()
        if state == self._state and (progress == self._progress or now < self._again):
            return
        if self._state is not None:
            click.echo()
        _show(overview(report, time.time()))
        self._state, self._progress, self._again = state, progress, now + _PROGRESS_S


def _is_unread(timeout_s: float) -> bool:
    """Whether nobody reads the output any more; waits for that, so that it ends even if nothing changes."""
    import select

    poll = select.poll()
    poll.register(sys.stdout, 0)  # nothing but what is told unasked: POLLERR and POLLHUP, when the other end is closed
    return bool(poll.poll(timeout_s * 1000))


def _report(config: Config, repo: str | None) -> dict[str, Any]:
    """Of one repo, or of all."""
    report = _ask(config)
    if repo is not None:
        known = (repo, meant(repo))
        report["repos"] = [each for each in report["repos"] if each["name"] in known or each["root"] in known]
        if not report["repos"]:
            raise click.UsageError(f'there is no repository "{repo}"; see: reposyncd repo list')
    return report


def _ask(config: Config) -> dict[str, Any]:
    try:
        return client_of(config).request("GET", "/v1/status", timeout_s=_PATIENCE_S)
    except DaemonNotRunningError:
        trouble = ""
    except (DaemonLostError, BusyError) as error:
        trouble = str(error)
    from reposyncd.app.stores import store_status
    from reposyncd.sync.status import status

    report = status(config.state_dir, time.time_ns(), __version__, store_status(config.state_dir))
    if trouble:
        report["daemon"]["state"] = trouble
    return report


def _show(lines: list[Line]) -> None:
    for line in lines:
        text = line.text
        if line.colour and line.end <= len(text):
            text = text[: line.start] + click.style(text[line.start : line.end], fg=line.colour) + text[line.end :]
        click.echo(text, color=False if os.environ.get("NO_COLOR") else None)
