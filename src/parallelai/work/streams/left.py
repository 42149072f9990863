"""What was taken out of worktrees and is too much for a patch: commits, each under a name of ours.

They are of a run, as its patches are, and go with it.
"""

from __future__ import annotations

import fnmatch
import shlex
from collections.abc import Collection, Sequence

from msgspec import Struct

from parallelai.errors import NotFoundError
from parallelai.git.plumbing import GitError
from parallelai.git.repository import Repository

LEFT = "refs/parallelai/left/"
"""Where they are: `<run>/<workstream>-<commit>` below this."""
_SHOWN = 12


class Left(Struct, frozen=True):
    """One of them: its name in git, and the commit."""

    ref: str
    commit: str

    @property
    def id(self) -> str:
        """What people call it: the workstream and the commit."""
        return self.ref.rpartition("/")[2]

    @property
    def name(self) -> str:
        """The workstream that it was taken out of."""
        return self.id.rpartition("-")[0]

    @property
    def takes(self) -> str:
        """The command that makes a branch of it."""
        return f"git branch {shlex.quote(self.id)} {shlex.quote(self.ref)}"

    @property
    def lets_go(self) -> str:
        """The command that removes it."""
        return f"parallelai work clean --left {shlex.quote(self.id)}"

    @property
    def run(self) -> str | None:
        """The run that left it; None of one that was kept before runs were named."""
        return self.ref.removeprefix(LEFT).rpartition("/")[0] or None


async def listed(repository: Repository) -> list[Left]:
    """All that are kept, by their names. Raises `GitError`."""
    rows = await repository.git.line("for-each-ref", "--format=%(refname) %(objectname)", LEFT)
    return [Left(ref, commit) for ref, _, commit in (row.partition(" ") for row in rows.splitlines())]


def chosen(found: Sequence[Left], patterns: Sequence[str]) -> list[Left]:
    """Those that patterns mean: by their own names, or by their workstream's. Pure.

    Raises `NotFoundError` for a pattern that means none.
    """
    meant = {
        pattern: [
            each for each in found if any(fnmatch.fnmatchcase(name, pattern) for name in (each.id, each.name))
        ]
        for pattern in patterns
    }
    for pattern, those in meant.items():
        if not those:
            said = f"nothing that was taken out of a worktree is kept under `{pattern}`"
            raise NotFoundError(said, next="`parallelai work clean --dry-run` lists what is")
    return [each for each in found if any(each in those for those in meant.values())]


async def keep(repository: Repository, run: str, name: str, commit: str) -> str:
    """Keep a commit: the same name for the same content. Gives the name. Raises `GitError`."""
    ref = f"{LEFT}{run}/{name}-{commit[:_SHOWN]}"
    is_kept = await repository.move(ref, commit, None, "parallelai: kept")
    if not is_kept and await repository.commit(ref) != commit:
        raise GitError(f"`{ref}`, which is to keep what lies in the worktree of `{name}`, cannot be written")
    return ref


async def let_go(repository: Repository, those: Sequence[Left]) -> list[Left]:
    """Remove names, and with them what git keeps for nobody else; gives those that it removed."""
    return [each for each in those if await repository.delete(each.ref, each.commit)]


async def let_go_of_runs(repository: Repository, runs: Collection[str]) -> None:
    """Remove what runs left that are deleted. Raises `GitError`."""
    await let_go(repository, [each for each in await listed(repository) if each.run in runs])
