"""A user's repository with linked worktrees, and a guard for each."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from repositories import Repository as Checkout
from repositories import lying

from parallelai.git.repository import Repository
from parallelai.work.guard.guarding import Guard, Guarded
from parallelai.work.guard.place import Settings
from parallelai.work.streams.record import Rules

BASE: dict[str, str | bytes] = {
    "src/a.txt": "a\n" * 20,
    "src/b.txt": "b\n" * 20,
    "src/deep/c.txt": "c\n" * 20,
    "other/x.txt": "x\n" * 20,
    "other/y.bin": bytes(range(256)) * 4,
    "shared.txt": "shared\n",
    "AGENTS.md": "Be kind.\n",
    ".gitignore": "*.log\nbuild/\n",
}
RULES = Rules(owns=("src/**",), shared=("shared.txt",), protected=("locked/**",), avoids=("src/never/**",))


class Room:
    """A checkout at `main`, and worktrees beside it, each on a branch of its own."""

    def __init__(self, folder: Path, files: dict[str, str | bytes] | None = None) -> None:
        self.folder = folder.resolve()
        self.main = Checkout.start(self.folder / "repo")
        self.main.git("config", "user.name", "Ana")
        self.main.git("config", "user.email", "ana@example.invalid")
        self.base = self.main.commit(BASE if files is None else files)
        self.repository = Repository(self.main.root, self.main.root / ".git")

    def worktree(self, name: str = "gui", *, fresh: bool = True, **settings: object) -> Stream:
        """Make a worktree, or find the one that was made."""
        path = self.folder / "worktrees" / name
        branch = f"parallelai/{name}"
        if fresh:
            self.main.git("worktree", "add", "-q", "-b", branch, str(path), self.base)
        given = Settings(
            repository=self.repository,
            name=name,
            worktree=path,
            branch=branch,
            rules=settings.pop("rules", RULES),  # type: ignore[arg-type]
            folder=self.folder / "state" / name,
            patches=self.main.root / ".parallelai" / "state" / "patches",
            **settings,  # type: ignore[arg-type]
        )
        return Stream(self, given, Guard(given, self.base))

    def refs(self) -> dict[str, str]:
        listed = self.main.git("for-each-ref", "--format=%(refname) %(objectname)")
        return dict(line.split(" ") for line in listed.splitlines())


class Stream:
    """One worktree, what an assistant does in it, and its guard."""

    def __init__(self, room: Room, settings: Settings, guard: Guard) -> None:
        self.room = room
        self.settings = settings
        self.guard = guard
        self.root = settings.worktree
        self.checkout = Checkout(self.root)

    def git(self, *arguments: str) -> str:
        return self.checkout.git(*arguments)

    def write(self, files: dict[str, str | bytes]) -> Stream:
        self.checkout.write(files)
        return self

    def lying(self) -> dict[str, tuple[str, bytes]]:
        found = lying(self.root)
        found.pop(".git", None)
        return found

    def again(self) -> Guard:
        """A guard as the next process has it."""
        self.guard = Guard(self.settings, self.guard.head)
        return self.guard

    async def turn(self, act: Callable[[], object] = lambda: None, leases: tuple[str, ...] = ()) -> Guarded:
        """What happens in one turn: the guard looks before and after."""
        await self.guard.before()
        act()
        return await self.guard.check(leases)

    def files(self, commit: str) -> dict[str, str]:
        """The files of a commit: git's mode and the content."""
        listed = self.git("ls-tree", "-r", "-z", commit)
        rows = (row.split("\t", 1) for row in listed.split("\0") if row)
        return {path: meta.split()[0] for meta, path in rows}

    def shown(self, commit: str, path: str) -> str:
        return self.git("cat-file", "blob", f"{commit}:{path}")

    def patches(self) -> list[Path]:
        return sorted(self.settings.patches.glob("*.patch"))


def apply(patch: Path, root: Path) -> None:
    """Apply a patch as a person would."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    done = subprocess.run(["git", "apply", str(patch)], cwd=root, env=clean, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
