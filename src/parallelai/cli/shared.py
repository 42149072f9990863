"""What all commands share: the global flags, after a command as well as before it, and where things go."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from parallelai.client import AsyncParallelAI
from parallelai.client.sync import run_apart
from parallelai.records import to_json

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Shared:
    """The global flags. Results go to stdout, all else to stderr."""

    project: str | None = None
    is_json: bool = False
    is_yes: bool = False
    is_quiet: bool = False
    is_verbose: bool = False
    color: str = "auto"

    def open(self, *, is_trusted: bool = False) -> AsyncParallelAI:
        """Open the project. Raises `UsageError` if the folder or its config is wrong."""
        return AsyncParallelAI(self.project, trust=is_trusted)

    def say(self, text: str) -> None:
        """Tell the user something that is not a result."""
        if not self.is_quiet:
            click.echo(text, err=True)

    def result(self, document: Any, text: str | Callable[[], str]) -> None:
        """Print a result: as JSON with `--json`, else as text."""
        if self.is_json:
            click.echo(json.dumps(to_json(document), indent=2, ensure_ascii=False))
        else:
            shown = text if isinstance(text, str) else text()
            if shown:
                click.echo(shown.rstrip("\n"), color=self.has_color)

    @property
    def has_color(self) -> bool:
        """Whether stdout gets colours."""
        if self.color != "auto":
            return self.color == "always"
        return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    @property
    def width(self) -> int:
        """The width of what is printed, in cells."""
        return shutil.get_terminal_size((100, 24)).columns if sys.stdout.isatty() else 100


_FLAGS = (
    click.option("--project", "project", metavar="DIR", help="The project's folder."),
    click.option("--json", "is_json", is_flag=True, help="Print one JSON document."),
    click.option("--yes", "is_yes", is_flag=True, help="Answer yes to questions."),
    click.option("--quiet", "-q", "is_quiet", is_flag=True, help="Print results and errors only."),
    click.option("--verbose", "-v", "is_verbose", is_flag=True, help="Print more."),
    click.option("--color", type=click.Choice(["auto", "always", "never"]), help="Use colours."),
)
_NAMES = ("project", "is_json", "is_yes", "is_quiet", "is_verbose", "color")


def command(function: F) -> F:
    """Give a command the global flags; it is called with a `Shared` as its first argument."""

    @click.pass_context
    def called(ctx: click.Context, /, **given: Any) -> Any:
        before = ctx.find_root().obj or {}
        own = {name: given.pop(name, None) for name in _NAMES}
        merged = {name: own[name] or before.get(name) for name in _NAMES}
        shared = Shared(**{name: value for name, value in merged.items() if value})
        return function(shared, **given)

    called.__doc__ = function.__doc__
    called.__name__ = function.__name__
    wrapped: Any = called
    wrapped.__click_params__ = list(getattr(function, "__click_params__", []))
    for flag in reversed(_FLAGS):
        wrapped = flag(wrapped)
    return wrapped  # type: ignore[no-any-return]  # click's decorators are untyped here


def complete(make: Callable[[], Any]) -> Any:
    """Await a coroutine to its end."""
    return run_apart(make)
