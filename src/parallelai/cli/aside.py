"""What is said beside the results, on stderr: whether anybody reads it is no matter of what is carried out."""

from __future__ import annotations

import os
import sys
from typing import TextIO

import click


def say_aside(text: str) -> None:
    """Say something on stderr, and nothing where nobody can read it any more."""
    try:
        click.echo(text, err=True)
    except OSError:
        silence(sys.stderr)


def silence(stream: TextIO) -> None:
    """Have what goes to a stream go nowhere: its reader has gone; also what the interpreter writes at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
