"""Whether others can get the commits of submodules: asked of what the user's own git folders know of remotes.

What a worktree has of a submodule is the assistant's: it could write refs of remotes there that never were.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from parallelai.engines.planted import read_plain
from parallelai.git.plumbing import Git, objects_of
from parallelai.git.submodules import module_folders

if TYPE_CHECKING:
    from parallelai.work.guard.measure import Found

_REPOSITORY = "160000"
PUBLISHED = ("refs/remotes/", "refs/tags/")
"""The refs that tell what remotes have."""
_MOST_BYTES = 64 * 1024 * 1024
_NAME = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


async def unpublished(git: Git, head: str, rows: Iterable[Found]) -> set[str]:
    """The paths of submodules that went to a commit which no remote is known to have; `git` is the user's.

    Of one that is new nobody can know that: a person gave leave for it. Raises `OSError`.
    """
    moved = [each for each in rows if _is_moved(each)]
    folders = await module_folders(git, head) if moved else {}
    found = set()
    for each in moved:
        folder = folders.get(each.change.path)
        if folder is None or each.after is None or not await _is_published(folder, each.after[1]):
            found.add(each.change.path)
    return found


def _is_moved(row: Found) -> bool:
    """Whether a submodule of the base is at another commit."""
    before, after = row.before, row.after
    return (
        before is not None and after is not None and before[0] == after[0] == _REPOSITORY and before != after
    )


async def _is_published(folder: Path, commit: str) -> bool:
    """Whether a ref of a remote, or a tag, leads to a commit."""
    tips = set((await asyncio.to_thread(refs_in, folder, PUBLISHED)).values())
    async with objects_of(folder, commit) as git:
        (git.git_dir / "shallow").write_bytes(_content(folder / "shallow"))
        if (await git.attempt("cat-file", "-e", f"{commit}^{{commit}}")).exit != 0:
            return False
        asked = "".join(f"{line}\n" for line in (commit, *(f"^{tip}" for tip in tips)))
        words = ("rev-list", "--max-count=1", "--ignore-missing", "--stdin")
        beyond = await git.attempt(*words, stdin=asked.encode())
    return beyond.exit == 0 and not beyond.stdout.strip()


def refs_in(folder: Path, kinds: tuple[str, ...]) -> dict[str, str]:
    """The refs whose names begin so, with the objects that they are at.

    They are read without git, which would obey the folder's settings.
    """
    refs: dict[str, str] = {}
    for line in os.fsdecode(_content(folder / "packed-refs")).splitlines():
        tip, _, name = line.partition(" ")
        if name.startswith(kinds):
            refs[name] = tip
    for above, _, names in os.walk(folder / "refs"):
        for path in (Path(above, name) for name in names):
            name = path.relative_to(folder).as_posix()
            if name.startswith(kinds):
                refs[name] = os.fsdecode(_content(path)).strip()
    return {name: tip for name, tip in refs.items() if _NAME.fullmatch(tip)}


def _content(path: Path) -> bytes:
    """A file's content; nothing where it cannot be read, or is a pipe."""
    try:
        return read_plain(path, _MOST_BYTES)
    except OSError:
        return b""
