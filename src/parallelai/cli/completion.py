"""`parallelai completion`."""

from __future__ import annotations

import click

from parallelai.cli.grammar import command
from parallelai.cli.shared import Shared
from parallelai.errors import UsageError


@command()
@click.argument("shell", metavar="SHELL", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shared: Shared, shell: str) -> int:
    """Print the completion script of a shell: bash, zsh or fish.

    In ~/.bashrc or ~/.zshrc, with the shell's name:

        eval "$(parallelai completion bash)"

    In ~/.config/fish/config.fish:

        parallelai completion fish | source
    """
    from click.shell_completion import get_completion_class

    from parallelai.cli import app

    kind = get_completion_class(shell)
    if kind is None:
        raise UsageError(f"there is no completion for `{shell}`")
    script = kind(app, {}, "parallelai", "_PARALLELAI_COMPLETE").source()
    shared.result({"shell": shell, "script": script}, script)
    return 0
