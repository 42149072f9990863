"""A repository with workstreams, for the tests of `work.streams`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repositories import Repository, everything

from parallelai.git.repository import Repository as Users
from parallelai.git.repository import open_repository
from parallelai.work.streams.base import choose_base
from parallelai.work.streams.record import Rules, Stream
from parallelai.work.streams.registry import Streams
from parallelai.work.streams.worktrees import SetUp, Started, Wanted, start

RULES = Rules(("src/**",))


@dataclass
class Project:
    """A user's checkout, its repository, and the registry of its workstreams."""

    user: Repository
    repository: Users
    streams: Streams

    async def start(
        self, name: str, *, set_up: SetUp | None = None, plan: str = "plan.yaml", **wanted: Any
    ) -> Started:
        base = await choose_base(self.repository, None, fetch=False)
        ask = Wanted(name, plan, "r-1", base, RULES, **wanted)
        return await start(self.repository, self.streams, ask, set_up)

    def in_tree(self, stream: Stream) -> Repository:
        return Repository(Path(stream.worktree))

    def checkout(self) -> dict[str, Any]:
        """All that is the user's: their files with times, and of `.git` what is not for worktrees and objects."""
        ours = (
            "objects",
            "worktrees",
            "refs/heads/parallelai",
            "logs/refs/heads/parallelai",
            "refs/parallelai",
        )
        folders = (".git", ".git/refs", ".git/refs/heads", ".git/logs/refs/heads", ".git/logs/refs")
        return {
            path: found
            for path, found in everything(self.user.root).items()
            if not path.startswith(tuple(f".git/{each}" for each in ours)) and path not in folders
        }


async def project(folder: Path, files: dict[str, str | bytes] | None = None) -> Project:
    """A checkout with one commit, and nothing else."""
    user = Repository.start(folder / "shop")
    user.commit(files or {"src/a.py": "a = 1\n", "src/b.py": "b = 1\n", "docs/x.md": "x\n"})
    return Project(user, await open_repository(user.root), Streams(folder / "state"))
