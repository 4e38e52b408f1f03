"""Arguments that several commands have."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_COMPLETE_S = 1.0
"""How long the completion of a name may take, since the user is waiting for it."""


class _Repo(click.ParamType[str, str]):
    """A repository, given by its name or a path. A path is made absolute, because the service has another working
    directory. Shells complete the names that the service knows."""

    name = "repo"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        is_path = os.sep in value or value in (os.curdir, os.pardir)
        return os.path.realpath(value) if is_path else value

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        from reposyncd.app.connect import service
        from reposyncd.cli import load_config
        from reposyncd.errors import ReposyncError

        with suppress(ReposyncError, OSError):
            repos = service(load_config(ctx.find_root()), _COMPLETE_S).status()["repos"]
            return [CompletionItem(repo["name"]) for repo in repos if repo["name"].startswith(incomplete)]
        return []


REPO = _Repo()
