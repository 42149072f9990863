"""What lies in a worktree and is not committed when nobody works there any more: whose it is, and where it is kept."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from parallelai.errors import UsageError
from parallelai.git.repository import Repository
from parallelai.results.printable import visible
from parallelai.work.scratch.workspaces import as_text, write_patch
from parallelai.work.streams.now import measure
from parallelai.work.streams.record import KeptOut, Stream
from parallelai.work.streams.taking_back import TakenBack, take_back

MOST_NAMED = 20
"""How many paths an assistant is told of at once."""


def shown(paths: Sequence[str]) -> str:
    """Some paths, for an assistant."""
    named = [f"`{visible(as_text(path))}`" for path in paths[:MOST_NAMED]]
    more = f" and {len(paths) - MOST_NAMED} more" if len(paths) > MOST_NAMED else ""
    return f"{', '.join(named)}{more}"


async def take_out(
    repository: Repository, stream: Stream, whose: str, folder: Path, *, is_whole: bool = False
) -> KeptOut | None:
    """Take back what is not committed; gives the files in words, and the patch in `folder` that keeps them.

    `is_whole`: all is kept, of whatever size, else what is small. `whose` names the patch. Raises `GitError`.
    """
    kept = list[KeptOut]()

    def keep(taken: TakenBack) -> None:
        if taken.patch:
            names = (f"{stream.name}-{whose}-{number}.patch" for number in itertools.count(1))
            path = next(folder / name for name in names if not (folder / name).exists())
            write_patch(path, taken.patch)
            kept.append(KeptOut((), shown(taken.kept), os.path.relpath(path, repository.root)))
        elif taken.ref:
            back = f"`git restore --source={taken.ref} -- PATH` in its worktree brings it back"
            kept.append(KeptOut((), f"{shown(taken.kept)}; it is kept in git: {back}"))

    await take_back(repository, stream, keep, is_whole=is_whole)
    return kept[0] if kept else None


async def is_a_persons(repository: Repository, stream: Stream) -> bool:
    """Whether somebody edited or committed in a worktree after the attempt there had been stopped.

    Nothing is said of an attempt that was killed: nobody saw when. Raises `GitError`.
    """
    if stream.left_at is None or not Path(stream.worktree).is_dir():
        return False
    try:
        now = await measure(repository, stream)
    except UsageError:  # git does not know the worktree any more
        return False
    if now.tip != stream.head:
        at = await repository.git.line("log", "--max-count=1", "--format=%ct", now.tip, "--")
        if int(at) >= int(stream.left_at):  # git knows whole seconds
            return True
    return await asyncio.to_thread(_is_any_newer, Path(stream.worktree), now.changed, stream.left_at)


def _is_any_newer(root: Path, paths: Iterable[str], at: float) -> bool:
    """Whether a file was written, or removed from its folder, after a time.

    What counts is when the file system noted it (`ctime`): a program that unpacks files gives them other times.
    """
    gone: set[Path] = set()
    for path in paths:
        changed = _changed_at(root / path)
        if changed is None:
            gone.add(_nearest(root, root / path))
        elif changed > at:
            return True
    return any(_has_lost(folder, at) for folder in gone)


def _changed_at(path: Path) -> float | None:
    try:
        return path.lstat().st_ctime
    except OSError:
        return None


def _nearest(root: Path, path: Path) -> Path:
    """The nearest folder that is there, of a file that is gone."""
    while path != root and _changed_at(path) is None:
        path = path.parent
    return path


def _has_lost(folder: Path, at: float) -> bool:
    """Whether a folder changed after a time, and nothing new in it says why: what is ignored comes without a person."""
    if (_changed_at(folder) or 0.0) <= at:
        return False
    try:
        with os.scandir(folder) as listed:
            return all(each.stat(follow_symlinks=False).st_ctime <= at for each in listed)
    except OSError:  # it goes on changing
        return True
