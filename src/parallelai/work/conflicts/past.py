"""What history says of files, read from the last commits of the target."""

from __future__ import annotations

import os

from parallelai.git.plumbing import Git, GitError
from parallelai.work.conflicts.risk import COMMITS, History, history

MOST_KEPT = 8


class Past:
    """The history of a commit, read once."""

    def __init__(self, git: Git) -> None:
        self._git = git
        self._found: dict[str, History] = {}

    async def of(self, commit: str) -> History:
        """Count over the last commits before this one; an empty history where git cannot tell."""
        if commit not in self._found:
            if len(self._found) >= MOST_KEPT:
                self._found = {}
            self._found[commit] = await self._read(commit)
        return self._found[commit]

    async def _read(self, commit: str) -> History:
        try:
            output = await self._git.run(
                *("log", f"--max-count={COMMITS}", "--no-merges", "--no-renames", "--name-only", "-z"),
                *(
                    "--no-show-signature",
                    "--no-notes",
                    "--no-color",
                    "--no-ext-diff",
                    "--format=%x01",
                    commit,
                    "--",
                ),
            )
        except GitError:
            return History()
        commits = []
        for part in output.split(b"\x01")[1:]:
            paths = [os.fsdecode(path) for path in part.strip(b"\n\0").split(b"\0")]
            commits.append([path.lstrip("\n") for path in paths if path.strip("\n")])
        return history(commits)
