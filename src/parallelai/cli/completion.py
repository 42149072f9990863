"""`parallelai completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from parallelai.cli.grammar import command
from parallelai.cli.shared import Shared
from parallelai.errors import UsageError


@command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shared: Shared, shell: str) -> int:
    """Print the completion script of a shell, such as `eval "$(parallelai completion bash)"`."""
    from parallelai.cli import app

    kind = get_completion_class(shell)
    if kind is None:
        raise UsageError(f"there is no completion for `{shell}`")
    click.echo(kind(app, {}, "parallelai", "_PARALLELAI_COMPLETE").source())
    return 0
