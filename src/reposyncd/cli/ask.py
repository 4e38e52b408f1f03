"""What the commands that ask the daemon have in common."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from reposyncd.app.client import Client

if TYPE_CHECKING:
    import click

    from reposyncd.config import Config


_COMPLETE_S = 1.0
"""Whoever has pressed a key waits no longer."""


def client_of(config: Config) -> Client:
    """Asks the daemon of this configuration; one that keeps another state directory counts as none."""
    return Client(config.socket, config.state_dir)


def complete_repo(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Names of repositories that begin so, for a shell; none where no daemon runs."""
    from contextlib import suppress

    from reposyncd.cli import load_config
    from reposyncd.errors import ReposyncError

    with suppress(ReposyncError, OSError):
        config = load_config(ctx.find_root())
        repos = client_of(config).request("GET", "/v1/repos", timeout_s=_COMPLETE_S)["repos"]
        return [repo["name"] for repo in repos if repo["name"].startswith(incomplete)]
    return []


def meant(repo: str | None) -> str | None:
    """A repo's name, or its path made absolute: the daemon has another working directory."""
    if repo is not None and (os.sep in repo or repo in (os.curdir, os.pardir)):
        return os.path.realpath(repo)
    return repo
