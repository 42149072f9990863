"""Which files are generated, and by which command: `landing: {generated: [{files: …, command: …}]}`. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from msgspec import Struct

from parallelai.plan.base import Model
from parallelai.plan.fields import Command, Patterns
from parallelai.plan.files import Matcher
from parallelai.plan.values import shown


class Generator(Model):
    """Files that a command makes; it runs where two changes meet in one of them."""

    files: Patterns
    command: Command


class MadeFiles(Struct, frozen=True):
    """What a command makes of the files that a project has now."""

    generator: Generator
    paths: tuple[str, ...]

    @property
    def said(self) -> str:
        """The same in one sentence."""
        count = len(self.paths)
        many = "file" if count == 1 else "files"
        patterns = ", ".join(map(shown, self.generator.files))
        command = shown(shlex.join(self.generator.command))
        return f"{patterns} ({count} {many}): made anew by {command} where two changes meet"


class Generators:
    """Says of paths by what they are made: the first one whose patterns select a path makes it."""

    def __init__(self, generators: Sequence[Generator] = ()) -> None:
        self._all = tuple((Matcher(one.files), one) for one in generators)

    def of(self, path: str) -> Generator | None:
        """What makes a file; None for one that nothing makes."""
        return next((one for matcher, one in self._all if matcher.selects(path)), None)

    def made_of(self, paths: Sequence[str]) -> tuple[MadeFiles, ...]:
        """What each command makes of these files, in the plan's order."""
        return tuple(
            MadeFiles(one, tuple(path for path in paths if self.of(path) is one)) for _, one in self._all
        )

    def claims(self, path: str) -> tuple[int, ...]:
        """The places, in the plan's order, of all that say that they make a file."""
        return tuple(place for place, (matcher, _) in enumerate(self._all) if matcher.selects(path))
