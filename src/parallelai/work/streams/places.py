"""The folder of a worktree, and git in it, without believing what lies there.

An assistant worked in that folder, and its `.git`, and git's own folder for the worktree
(`.git/worktrees/<id>`), may say anything: a `.git` that leads to another repository, or a `config.worktree`
with a program in it, would be obeyed by a git that finds its way by itself. So git is told everything, and
the worktree's own configuration is looked at before it is read.
(What is where: gitrepository-layout(5), git-worktree(1).)
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from msgspec import Struct

from parallelai.errors import Trespass
from parallelai.git.paths import as_named
from parallelai.git.plumbing import EXACT, failure
from parallelai.git.repository import SECONDS, Repository
from parallelai.processes import Completed
from parallelai.work import filters

QUIET = (
    *EXACT,
    *("-c", "core.fsmonitor=false"),
    *("-c", "core.hooksPath=/dev/null"),
    *("-c", "core.splitIndex=false"),
    *("-c", "core.safecrlf=false"),
    *("-c", "submodule.recurse=false"),
    *("-c", "gc.auto=0"),
    *("-c", "maintenance.auto=false"),
)
"""What holds for every call: nothing that was configured is started, but the filters of files."""
CHANGED = ("diff-files", "-z", "--name-only", "--diff-filter=MDT", "--ignore-submodules=all")
"""Names what differs from the index. Submodules are left out: git would start in them, and obey their settings."""
_OWN_SETTINGS = frozenset({"core.sparsecheckout", "core.sparsecheckoutcone", "index.sparse"})
_MOST_BYTES = 8192


@dataclass(frozen=True, slots=True)
class Entry:
    """What git keeps of one linked worktree: `admin` is its folder there, `path` where the worktree should be."""

    admin: Path
    path: Path
    branch: str | None = None
    locked: str | None = None


def entries(repository: Repository) -> list[Entry]:
    """List what git keeps of linked worktrees; what is half made, or not to be understood, is left out."""
    found = []
    for admin in _folders(repository.common / "worktrees"):
        pointer = (_text(admin / "gitdir") or "").rstrip("\r\n")  # a folder's name may hold the end of a line
        if not pointer:
            continue
        path = Path(os.path.normpath(admin / pointer)).parent
        head = first_line(admin / "HEAD") or ""
        branch = head.removeprefix("ref: refs/heads/") if head.startswith("ref: refs/heads/") else None
        found.append(Entry(admin, path, branch, first_line(admin / "locked")))
    return found


def entry_of(repository: Repository, path: Path) -> Entry | None:
    """What git keeps of the worktree at a path; None where it knows none there."""
    wanted = _real(path)
    found = [entry for entry in entries(repository) if _real(entry.path) == wanted]
    # Of several that claim it: an assistant may have led its own to the worktree of another.
    return next((entry for entry in found if is_linked(entry)), found[0] if found else None)


def _real(path: Path) -> str:
    """A path with the links on the way to it followed; the folder itself may be gone."""
    return os.path.join(os.path.realpath(path.parent), path.name)  # noqa: PTH118


def is_linked(entry: Entry) -> bool:
    """Whether the `.git` of a worktree's folder leads to what git keeps of it."""
    return leads_to(entry.path, entry.admin)


def leads_to(worktree: Path, admin: Path) -> bool:
    """Whether the `.git` of a worktree leads to a folder of git's."""
    line = first_line(worktree / ".git") or ""
    return line.startswith("gitdir: ") and _real(Path(worktree, line[8:])) == _real(admin)


class Place(Struct, frozen=True):
    """A worktree's folder with what git keeps of it."""

    repository: Repository
    entry: Entry

    @property
    def path(self) -> Path:
        return self.entry.path

    @property
    def index(self) -> Path:
        """The index of the worktree."""
        return self.entry.admin / "index"

    async def outside(
        self,
        *arguments: str,
        index: Path,
        stdin: bytes = b"",
        seconds: float = SECONDS,
        is_sparse: bool = False,
    ) -> Completed:
        """Call git on the worktree's files with an index of ours; nothing that an assistant can write is obeyed.

        HEAD is the main worktree's. May be called while somebody works in the folder.
        """
        common = str(self.repository.common)
        env = {"GIT_DIR": common, "GIT_WORK_TREE": str(self.path), "GIT_INDEX_FILE": str(index)}
        words = ("-c", f"core.sparseCheckout={'true' if is_sparse else 'false'}", *arguments)
        return await self._call(words, env, stdin, seconds)

    async def inside(
        self, *arguments: str, index: Path | None = None, stdin: bytes = b"", seconds: float = SECONDS
    ) -> Completed:
        """Call git in the worktree: its own HEAD, index and sparse patterns. Only while nobody else works there.

        Raises `Trespass` where the worktree has settings of its own that are not ours.
        """
        await self._refuse_settings()
        env = {
            "GIT_DIR": str(self.entry.admin),
            "GIT_COMMON_DIR": str(self.repository.common),
            "GIT_WORK_TREE": str(self.path),
        }
        if index is not None:
            env["GIT_INDEX_FILE"] = str(index)
        return await self._call(arguments, env, stdin, seconds)

    async def must(self, *arguments: str, index: Path | None = None, stdin: bytes = b"") -> bytes:
        """Call git in the worktree, where only success will do. Raises `GitError`, `Trespass`."""
        done = await self.inside(*arguments, index=index, stdin=stdin)
        if done.exit != 0 or done.is_truncated:
            raise failure(arguments, done)
        return done.stdout

    async def _call(
        self, arguments: tuple[str, ...], env: Mapping[str, str], stdin: bytes, seconds: float
    ) -> Completed:
        own = {"GIT_LITERAL_PATHSPECS": "1", "GIT_OPTIONAL_LOCKS": "0"}
        return await filters.as_user(
            self.repository,
            *QUIET,
            *as_named(self.path),
            *arguments,
            at=self.path,
            stdin=stdin,
            env={**env, **own},
            seconds=seconds,
            hidden=(str(self.path.parent),),
        )

    async def _refuse_settings(self) -> None:
        """Look at the settings of the worktree alone: a sparse checkout has some, and they name no program."""
        file = self.entry.admin / "config.worktree"
        if not file.is_symlink() and not file.exists():
            return
        words = ("config", "--null", "--no-includes", "--name-only", "--list", "--file", str(file))
        done = await self.repository.git.attempt(*words)
        keys = {os.fsdecode(key) for key in done.stdout.split(b"\0") if key}
        if done.exit != 0 or file.is_symlink() or keys - _OWN_SETTINGS:
            named = ", ".join(f"`{key}`" for key in sorted(keys - _OWN_SETTINGS)[:5]) or "unreadable"
            raise Trespass(
                f"the worktree `{self.path}` has settings of its own: {named}",
                next=f"look at `{file}`, and take them out",
            )


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())
    except OSError:
        return []


def first_line(path: Path) -> str | None:
    """The first line of a small file; None where there is none. A pipe in its place is not waited for."""
    text = _text(path)
    return None if text is None else text.split("\n", 1)[0].rstrip("\r")


def _text(path: Path) -> str | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.fsdecode(os.read(descriptor, _MOST_BYTES))
    except OSError:  # a folder, or a pipe
        return None
    finally:
        os.close(descriptor)
