"""The command line: one module for each command, imported when the command is called."""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from reposyncd import __version__
from reposyncd.cli.output import printing, say
from reposyncd.errors import ReposyncError
from reposyncd.text import printable

if TYPE_CHECKING:
    from reposyncd.app.facade import App
    from reposyncd.config import Config

_COMMANDS = {
    "sync": "Bring the index of a directory up to date.",
    "daemon": "Run the service in the foreground.",
    "search": "Find code by meaning.",
    "status": "Show what is indexed, how current it is, and what is wrong.",
    "repo": "Add, remove and list the directories that are indexed.",
    "flush": "Wait until the index has every change.",
    "pause": "Stop updating an index for a while.",
    "resume": "Continue updating after a pause.",
    "history": "Show the last syncs.",
    "config": "Show the configuration, or create a configuration file.",
    "completion": "Print the completion script for a shell.",
    "service": "Install or remove the systemd unit of the service.",
    "verify": "Compare the index with the files, record by record.",
}


class _Commands(click.Group):
    """Knows the names and the first lines of the commands. Imports a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"reposyncd.cli.{cmd_name}").command
        return command

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        with printing():  # --help and --version print here
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with printing():
            return super().invoke(ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="reposyncd")
@click.option(
    "--state-dir",
    metavar="DIR",
    help="The directory that holds the index  [default: $REPOSYNCD_STATE_DIR, else ~/.local/state/reposyncd]",
)
@click.pass_context
def _group(ctx: click.Context, state_dir: str | None) -> None:
    """Keeps a vector index of your code repositories equal to the files on disk.

    \b
      reposyncd service install      have systemd run the service
      reposyncd repo add ~/src/app   keep this directory indexed
      reposyncd search where are retries configured
      reposyncd status

    Exit codes: 0 done; 1 failed, or something is wrong; 2 usage; 3 the service is not running; 75 busy, try again; 78
    the configuration is wrong; 130 stopped; 141 the output was closed.
    """
    ctx.obj = state_dir


def load_config(ctx: click.Context) -> Config:
    """The effective configuration, with the options that were given before the command."""
    from reposyncd import config

    return config.load(os.environ, state_dir=ctx.obj)


def connect(ctx: click.Context) -> App:
    """What does the work of a command: the service, or this process if the service is not running. In this process,
    Ctrl-C stops the work after the batch that is being stored."""
    from reposyncd.app.connect import connect
    from reposyncd.cli.stop import Stop

    return connect(load_config(ctx), stop=Stop, notify=lambda text: say(f"reposyncd: {text}", err=True))


def main() -> None:
    """Entry point. Every error that a user can do something about ends here, as one line and an exit code."""
    try:
        with printing():  # click prints here if the arguments are wrong
            _group(prog_name="reposyncd")
    except ReposyncError as error:
        say(f"reposyncd: {printable(str(error))}", err=True)
        sys.exit(error.exit_code)
