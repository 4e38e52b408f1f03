"""`reposyncd completion`: what a shell needs to complete commands, options, repositories and directories."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_VARIABLE = "_REPOSYNCD_COMPLETE"
"""As click names it."""


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script of SHELL: commands, options, repositories and directories.

    \b
      bash   reposyncd completion bash > ~/.local/share/bash-completion/completions/reposyncd
      zsh    reposyncd completion zsh > "${fpath[1]}/_reposyncd"
      fish   reposyncd completion fish > ~/.config/fish/completions/reposyncd.fish
    """
    from reposyncd.cli import _group

    made = get_completion_class(shell)
    assert made is not None  # noqa: S101 - click has all three
    click.echo(made(_group, {}, "reposyncd", _VARIABLE).source())
