"""What is there of a worktree, and what has to be done that all of it is: a pure decision (`steps`).

A start may be killed at any point, and people delete folders and branches. Each step loses nothing: a branch
is made again where it was, a folder with files is taken as it lies.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from parallelai.errors import UsageError
from parallelai.git.repository import Repository
from parallelai.work.streams.places import Entry, entry_of, is_linked
from parallelai.work.streams.record import Stream

Folder = Literal["absent", "empty", "pointer", "files", "foreign"]
"""`pointer`: it holds nothing but the file `.git`; `foreign`: no folder of ours, or a repository of its own."""
Step = Literal["branch", "clear", "add", "add-new", "add-again", "adopt", "link", "unlock", "index", "files"]
"""branch: make it where it was; clear: drop a `.git` that leads nowhere; add: a worktree of the branch; add-new:
with the branch; add-again: git knows one there, of which nothing is left; adopt: files that git forgot; link:
write `.git` anew; unlock: git was killed while it made the worktree; index: make it anew; files: those that are
missing, or half written."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What is there. `tip` is where the branch is, None where it is not; `is_ours`: it goes on from the base."""

    tip: str | None
    folder: Folder
    is_known: bool = False
    is_linked: bool = False
    branch: str | None = None
    locked: str | None = None
    has_index: bool = False
    is_ours: bool = True


async def look(repository: Repository, stream: Stream) -> Standing:
    """Say what is there of the worktree of a workstream."""
    path = Path(stream.worktree)
    tip = await repository.commit(f"refs/heads/{stream.branch}")
    entry: Entry | None = entry_of(repository, path)
    folder = kind_of(path)
    is_ours = tip is None or await repository.ancestor(stream.base, tip)
    if entry is None:
        return Standing(tip, folder, is_ours=is_ours)
    return Standing(
        tip,
        folder,
        is_known=True,
        is_linked=folder in ("pointer", "files") and is_linked(entry),
        branch=entry.branch,
        locked=entry.locked,
        has_index=_has_index(entry.admin / "index"),
        is_ours=is_ours,
    )


def kind_of(path: Path) -> Folder:
    """Say what lies where the worktree should be."""
    try:
        if not stat.S_ISDIR(path.lstat().st_mode):
            return "foreign"
        names = os.listdir(path)  # noqa: PTH208 -- names alone
    except FileNotFoundError:
        return "absent"
    except OSError:
        return "foreign"
    if not names:
        return "empty"
    pointer = path / ".git"
    if pointer.is_dir() and not pointer.is_symlink():
        return "foreign"
    return "pointer" if names == [".git"] else "files"


def _has_index(index: Path) -> bool:
    """Whether there is an index that was written to its end: it begins with its mark (gitformat-index(5))."""
    try:
        with index.open("rb") as file:
            return file.read(4) == b"DIRC"
    except OSError:
        return False


def steps(stream: Stream, now: Standing) -> tuple[Step, ...]:
    """Decide what has to be done, in order. Raises `UsageError` for what only a person can put right."""
    path, branch = stream.worktree, stream.branch
    if now.folder == "foreign":
        raise UsageError(
            f"`{path}` is not the worktree of `{stream.name}`, but something else",
            next="move it away, and start the workstream again",
        )
    if not stream.is_ready and not now.is_ours:
        raise UsageError(
            f"the branch `{branch}` was made by somebody else since",
            next=f"rename it: `git branch -m {branch} NEW`",
        )
    is_empty = now.folder in ("absent", "empty") or (now.folder == "pointer" and not now.has_index)
    if is_empty:
        return _anew(stream, now)
    todo: list[Step] = ["branch"] if now.tip is None else []
    if not now.is_known:
        return (*todo, "adopt", "index", *_files(stream))
    if now.branch != branch:
        raise UsageError(
            f"`{path}` is not on its branch `{branch}`", next=f"`git -C {path} switch {branch}`, or drop it"
        )
    if not now.is_linked:
        todo.append("link")
    if now.locked == "initializing":
        todo.append("unlock")
    if not now.has_index:
        todo.append("index")
    return (*todo, *_files(stream))


def _anew(stream: Stream, now: Standing) -> tuple[Step, ...]:
    """Nothing of the folder is there."""
    todo: list[Step] = ["clear"] if now.folder == "pointer" else []
    if now.is_known and now.locked not in (None, "initializing"):
        raise UsageError(
            f"the worktree `{stream.worktree}` is gone, and locked ({now.locked or 'no reason is given'})",
            next=f"bring it back, or `git worktree unlock {stream.worktree}`",
        )
    if now.tip is None and (now.is_known or stream.is_ready or stream.head != stream.base):
        todo.append("branch")
        return (*todo, "add-again" if now.is_known else "add")
    if now.tip is None:
        return (*todo, "add-new")
    return (*todo, "add-again" if now.is_known else "add")


def _files(stream: Stream) -> tuple[Step, ...]:
    # Of a worktree that was made to its end a missing file is somebody's change.
    return () if stream.is_ready else ("files",)
