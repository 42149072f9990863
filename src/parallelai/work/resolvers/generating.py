"""Generated files are made anew by the command that the plan names for them.

It runs in a folder as gates have it, at the merge without the files that are in conflict, so that what it does not
write is not there. What it wrote beside them counts only where the plan says that it makes that, too.
"""

from __future__ import annotations

import os
import secrets
import shlex
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from parallelai.errors import ParallelAIError
from parallelai.plan.generators import Generator, Generators, MadeFiles
from parallelai.results.printable import visible
from parallelai.run.masking import Masker
from parallelai.work.gates.ran import Ran
from parallelai.work.gates.trees import Trees
from parallelai.work.gates.written import NotPlain

SECONDS = 600.0
_SAID = 400
"""Characters of what a tool said that an error repeats; its log has all."""
Made = Mapping[str, bytes | None]
"""What a command made of each file; None is no file."""


class Generate(Protocol):
    """Makes generated files anew."""

    def of(self, path: str) -> Generator | None:
        """What makes a file; None for one that nothing makes."""

    def made_of(self, paths: Sequence[str]) -> Sequence[MadeFiles]:
        """What each command makes of these files, in the plan's order: one may read what an earlier one made."""

    async def __call__(self, generator: Generator, commit: str, paths: Collection[str]) -> Made | str:
        """Make files anew at a commit that lacks them; in words why that cannot be had.

        Other files of the same command, of those that git has, are in the result where they changed.
        """


class Generation(Struct, frozen=True):
    """Runs the commands of a plan in the folders of its gates. `logs` is where their output goes."""

    generators: Generators
    trees: Trees
    logs: Path
    seconds: float = SECONDS

    def of(self, path: str) -> Generator | None:
        """See `Generate.of`."""
        return self.generators.of(path)

    def made_of(self, paths: Sequence[str]) -> Sequence[MadeFiles]:
        """See `Generate.made_of`."""
        return self.generators.made_of(paths)

    async def __call__(self, generator: Generator, commit: str, paths: Collection[str]) -> Made | str:
        """See `Generate`. Never raises for what a command does, or where it cannot be run."""
        shown = shown_command(generator)
        log = self.logs / f"generated-{secrets.token_hex(6)}.log"
        try:
            async with self.trees.at(commit) as tree:
                ran = await tree.generate(generator.command, self.seconds, log)
                if ran.exit != 0:
                    return self._told(f"`{shown}` {_ended(ran, self.seconds)}")
                made = await tree.written(paths)
        except NotPlain as error:
            return self._told(f"`{shown}` left {error.said}")
        except (ParallelAIError, OSError) as error:
            return self._told(f"`{shown}` could not be run: {error}")
        stray = sorted(path for path in made if self.of(path) is not generator)
        if stray:
            more = f" and {len(stray) - 1} more" if len(stray) > 1 else ""
            return self._told(f"`{shown}` also changed `{stray[0]}`{more}, which its `files` do not name")
        return made

    def _told(self, said: str) -> str:
        workspace = self.trees.workspace
        return told(said, workspace.env, workspace.pass_env)


def shown_command(generator: Generator) -> str:
    """A generator's command, as a shell would have it."""
    return visible(shlex.join(generator.command))


def told(said: str, env: Mapping[str, str], pass_env: Sequence[str]) -> str:
    """What a tool said, in one line of bounded length: its end, where programs say what went wrong.

    The secrets that it was given, by value (`env`) or by name, are masked: an engine may be told, too.
    """
    masker = Masker.of_environment({**os.environ, **env}, (*pass_env, *env))
    clean = visible(" ".join(masker.text(said).split()))
    return clean if len(clean) <= _SAID else f"{clean[: _SAID // 4]} … {clean[-_SAID * 3 // 4 :]}"


def _ended(ran: Ran, seconds: float) -> str:
    if ran.exit is not None:
        end = f"failed (exit {ran.exit})"
    elif ran.ended_by == "timeout":
        end = f"was not done after {seconds:g} s"
    else:
        end = f"was ended by {ran.ended_by}"
    return f"{end}: {ran.said}" if ran.said else end
