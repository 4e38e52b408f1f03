"""`reposyncd daemon`: the service, in the foreground."""

from __future__ import annotations

import importlib
import os

import click

from reposyncd.cli import load_config


@click.command("daemon")
@click.pass_context
def command(ctx: click.Context) -> None:
    """Keep every repository that was added current, until SIGTERM or Ctrl-C."""
    config = load_config(ctx)
    service = importlib.import_module("reposyncd.daemon.service")  # here, as every other command does without it
    service.run(config, os.environ, lambda line: click.echo(f"reposyncd: {line}", err=True))
