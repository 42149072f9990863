"""What all commands share: the global flags, the open project, and where things go."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click
from msgspec import Struct

from parallelai.cli.aside import say_aside
from parallelai.errors import ParallelAIError, UsageError
from parallelai.results.printable import harmless

if TYPE_CHECKING:
    from parallelai.client import AsyncParallelAI
    from parallelai.client.project import OpenProject

T = TypeVar("T")
PLAIN_WIDTH = 100
"""Cells in a line of what goes to no terminal."""


class Shared(Struct, frozen=True):
    """The global flags. Results go to stdout, all else to stderr."""

    project: str | None = None
    is_json: bool = False
    is_yes: bool = False
    is_quiet: bool = False
    is_verbose: bool = False
    color: str = "auto"

    def call(
        self,
        work: Callable[[AsyncParallelAI], Awaitable[T]],
        *,
        is_trusted: bool = False,
        is_noted: bool = False,
    ) -> T:
        """Open the project, await something of it, and close it.

        Args:
            work: what is awaited.
            is_trusted: the user lets run what the project's config names.
            is_noted: what of that config does not hold is said first, and not only where something is refused.

        Raises:
            UsageError: the folder or its config is wrong, or what was asked cannot be done.
        """
        from parallelai.client.sync import run_apart

        async def opened() -> T:
            async with self._open(is_trusted) as ai:
                if is_noted:
                    self._tell_ignored(ai)
                try:
                    return await work(ai)
                except UsageError:
                    if not is_noted:
                        self._tell_ignored(ai)
                    raise

        return run_apart(opened)

    def read(self, work: Callable[[AsyncParallelAI], T]) -> T:
        """The same for something that is not awaited."""

        async def now(ai: AsyncParallelAI) -> T:
            return work(ai)

        return self.call(now)

    def _open(self, is_trusted: bool) -> AsyncParallelAI:
        from parallelai.client import AsyncParallelAI

        try:
            return AsyncParallelAI(self.project, trust=is_trusted)
        except FileNotFoundError:
            raise UsageError("the folder that you are in is gone", next="go to another one") from None

    def _tell_ignored(self, ai: AsyncParallelAI) -> None:
        """What was asked may need what nobody trusted."""
        with contextlib.suppress(ParallelAIError):  # a config that is wrong is told by itself
            self.say_ignored(ai.project)

    def say_ignored(self, project: OpenProject) -> None:
        """Say what of the project's config does not hold."""
        from parallelai.client.notes import of_ignored

        for note in of_ignored(project):
            self.say(f"note: {note}")

    def say(self, text: str) -> None:
        """Tell the user something that is not a result."""
        if not self.is_quiet:
            say_aside(harmless(text))

    def insist(self, text: str) -> None:
        """Tell the user what nobody but they can do, also with `--quiet`."""
        say_aside(harmless(text))

    def result(self, document: Any, text: str | Callable[[], str]) -> None:
        """Print a result: as JSON with `--json`, else as text."""
        if self.is_json:
            from parallelai.results.json import dump

            click.echo(dump(document), nl=False)
        else:
            shown = text if isinstance(text, str) else text()
            if shown:
                click.echo(harmless(shown.rstrip("\n")), color=self.has_color)

    def confirm(self, question: str) -> bool:
        """Ask before something is lost. Raises `UsageError` where nobody is there to answer."""
        if self.is_yes:
            return True
        if self.is_json or not sys.stdin.isatty():
            said = f"nothing was done, because nobody is here to be asked: {question}"
            raise UsageError(said, next="the same command with `--yes` does it without asking")
        return click.confirm(question, err=True)

    @property
    def is_interactive(self) -> bool:
        """Whether somebody is there to be asked; `--yes` is no answer to everything."""
        return not self.is_json and not self.is_quiet and sys.stdin.isatty() and sys.stderr.isatty()

    @property
    def has_color(self) -> bool:
        """Whether stdout gets colours."""
        if self.color != "auto":
            return self.color == "always"
        return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    @property
    def width(self) -> int:
        """The width of what is printed, in cells."""
        return shutil.get_terminal_size((PLAIN_WIDTH, 24)).columns if sys.stdout.isatty() else PLAIN_WIDTH

    @property
    def is_ascii(self) -> bool:
        """Whether stdout takes nothing but ASCII."""
        encoding = (getattr(sys.stdout, "encoding", None) or "ascii").lower()
        return not encoding.replace("-", "").startswith("utf")
