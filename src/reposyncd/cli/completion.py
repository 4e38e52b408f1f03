"""`reposyncd completion`: prints the script for completing commands, options, repositories and directories."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_VARIABLE = "_REPOSYNCD_COMPLETE"
"""The variable that click reads."""


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script for SHELL. It completes commands, options, repositories and directories.

    Write the script to the file below. Create its directory with `mkdir -p` first. For zsh, the directory must be in
    fpath before ~/.zshrc calls compinit.

    \b
      bash   ~/.local/share/bash-completion/completions/reposyncd
      zsh    ~/.local/share/zsh/site-functions/_reposyncd
      fish   ~/.config/fish/completions/reposyncd.fish
    """
    from reposyncd.cli import _group

    made = get_completion_class(shell)
    assert made is not None  # noqa: S101 - click supports all three
    click.echo(made(_group, {}, "reposyncd", _VARIABLE).source())
