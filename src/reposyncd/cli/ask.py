"""What the commands that ask the daemon have in common."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from reposyncd.client import Client

if TYPE_CHECKING:
    from reposyncd.config import Config


def client_of(config: Config) -> Client:
    """Asks the daemon of this configuration; one that keeps another state directory counts as none."""
    return Client(config.socket, config.state_dir)


def meant(repo: str | None) -> str | None:
    """A repo's name, or its path made absolute: the daemon has another working directory."""
    if repo is not None and (os.sep in repo or repo in (os.curdir, os.pardir)):
        return os.path.realpath(repo)
    return repo
