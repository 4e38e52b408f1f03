"""`reposyncd completion`: the script with which a shell completes commands, options, repositories and directories."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_VARIABLE = "_REPOSYNCD_COMPLETE"
"""The variable that click reads."""


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script of SHELL: commands, options, repositories and directories.

    Create the directory of the file below with `mkdir -p`, and write the script to it. For zsh the directory must be in
    fpath before ~/.zshrc calls compinit.

    \b
      bash   ~/.local/share/bash-completion/completions/reposyncd
      zsh    ~/.local/share/zsh/site-functions/_reposyncd
      fish   ~/.config/fish/completions/reposyncd.fish
    """
    from reposyncd.cli import _group

    made = get_completion_class(shell)
    assert made is not None  # noqa: S101 - click has all three
    click.echo(made(_group, {}, "reposyncd", _VARIABLE).source())
