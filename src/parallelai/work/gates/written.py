"""What a command wrote into a prepared folder, as git would store it."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path, PurePosixPath

from parallelai.errors import ParallelAIError
from parallelai.git.plumbing import Git
from parallelai.processes.temporary import temporary_folder
from parallelai.work.scratch.snapshot import listing

_FILES = ("100644", "100755")
MOST_BYTES = 64 * 1024 * 1024
"""Of one file: its content is held in memory."""
_MOST_OF_AN_INDEX = 1024 * 1024 * 1024
_KINDS = {stat.S_IFLNK: "a link", stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe"}
Written = dict[str, bytes | None]


class NotPlain(ParallelAIError):
    """At a path that is taken lies something else than a plain file of a bearable size; `said` names both."""

    kind = "invalid"


async def changed(git: Git, index: Path, own_index: Path, commit: str) -> tuple[str, ...]:
    """Name the files that are no longer as they were laid out, on the disk or in the folder's own index.

    `git` has the folder; `index` is that of ours, at `commit`. Both indexes stay as they are. Raises `GitError`.
    """
    with temporary_folder("index") as folder:
        ours, own = folder / "ours", folder / "own"
        await asyncio.to_thread(shutil.copy2, index, ours)
        known = replace(git, index=ours)
        await known.attempt("update-index", "-q", "--refresh")
        rows = _rows(await known.run("diff-files", "-z", "--name-only"))
        if not await asyncio.to_thread(_copied, own_index, own):
            return (".git/index",)
        staged = await replace(git, index=own).attempt("diff-index", "-z", "--cached", "--name-only", commit)
    if staged.exit != 0:
        return (".git/index",)
    return tuple(sorted({os.fsdecode(row) for row in (*rows, *_rows(staged.stdout))}))


def _copied(source: Path, target: Path) -> bool:
    """Copy a plain file of a bearable size that somebody else may have made; False where it is none."""
    try:
        opened = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    with os.fdopen(opened, "rb") as file, target.open("wb") as copy:
        status = os.fstat(opened)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MOST_OF_AN_INDEX:
            return False
        shutil.copyfileobj(file, copy)
    return True


async def written(git: Git, also: Collection[str]) -> Written:
    """Give the content of each file that is no longer as it was laid out; None is no file.

    `git` has the folder's index, which stays as it is; `also` are paths that were not laid out and are looked at,
    too. Raises `NotPlain` where one is a link, a folder or the like, or too large, `GitError` where one cannot be
    read, and OSError where the index cannot be copied.
    """
    with temporary_folder("index") as folder:  # none that the command could write into
        index = folder / "index"
        if git.index is not None:
            await asyncio.to_thread(shutil.copy2, git.index, index)
        git = replace(git, index=index)
        await git.attempt("update-index", "-q", "--refresh")
        names = {os.fsdecode(name) for name in _rows(await git.run("diff-files", "-z", "--name-only"))}
        names.update(also)
        if git.work_tree is not None:
            await asyncio.to_thread(_check, git.work_tree, names)
        await git.run("update-index", "-z", "--add", "--remove", "--replace", "--stdin", stdin=listing(names))
        staged = _rows(await git.run("ls-files", "-z", "--stage"))
    blobs: dict[str, str] = {}
    for row in staged:
        meta, name = row.split(b"\t", 1)
        mode, blob, _ = meta.decode().split(" ")
        if mode in _FILES and (path := os.fsdecode(name)) in names:
            blobs[path] = blob
    contents = await git.blobs(set(blobs.values()))
    return {path: contents[blobs[path]] if path in blobs else None for path in names}


def _check(root: Path, names: Collection[str]) -> None:
    folders = {folder for name in names for folder in PurePosixPath(name).parents}
    for folder in sorted(folders):
        if (root / folder).is_symlink():
            raise NotPlain(f"a link at `{folder}`")
    for name in sorted(names):
        try:
            found = (root / name).lstat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        if not stat.S_ISREG(found.st_mode):
            kind = _KINDS.get(stat.S_IFMT(found.st_mode), "no plain file")
            raise NotPlain(f"{kind} at `{name}`")
        if found.st_size > MOST_BYTES:
            raise NotPlain(f"more than {MOST_BYTES} bytes in `{name}`")


def _rows(listed: bytes) -> list[bytes]:
    return listed.split(b"\0")[:-1]
