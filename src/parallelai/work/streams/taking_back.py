"""Taking back what lies in a worktree and is not committed: what a check left, or an attempt that was cut off."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from parallelai.git.repository import Repository
from parallelai.work.scratch import folders
from parallelai.work.scratch.gathering import listing
from parallelai.work.streams.indexes import clear_index
from parallelai.work.streams.now import Now, find_place, measure
from parallelai.work.streams.record import Stream

MOST_KEPT = 1000
MOST_KEPT_BYTES = 1_000_000
"""What people edit is smaller; what a build leaves is not worth keeping."""


@dataclass(frozen=True, slots=True)
class TakenBack:
    """What was taken back: paths below the worktree, and a patch of those that are small enough to keep."""

    paths: tuple[str, ...]
    kept: tuple[str, ...]
    patch: bytes


async def take_back(
    repository: Repository, stream: Stream, keep: Callable[[TakenBack], None], *, is_whole: bool = False
) -> None:
    """Put a worktree's files back to what its branch has. Raises `GitError`.

    A person may have edited there meanwhile: before a file is touched, `keep` is given a patch of what differs, if
    anything does. With `is_whole` it holds all, else what is small enough.
    """
    place = find_place(repository, stream)
    if await asyncio.to_thread(clear_index, place.index):
        await place.must("read-tree", stream.head)
    now = await measure(repository, stream)
    if not now.changed:
        return
    taken = await _patch(repository, place.path, now, is_whole=is_whole)
    await asyncio.to_thread(keep, taken)
    listed = await repository.git.run("ls-tree", "-r", "-z", "--name-only", now.tip)
    tracked = {os.fsdecode(path) for path in listed.split(b"\0") if path}
    for path in now.changed:
        await asyncio.to_thread(folders.clear_away, place.path, path)
    known = [path for path in now.changed if path in tracked]
    if known:
        await place.must("checkout-index", "-f", "-u", "-z", "--stdin", stdin=listing(known))


async def _patch(repository: Repository, root: Path, now: Now, *, is_whole: bool) -> TakenBack:
    sides = ("diff-tree", "-r", "-p", "--binary", "--full-index", "--no-renames", now.tip, now.commit)
    if is_whole:
        return TakenBack(now.changed, now.changed, await repository.git.run(*sides))
    kept = await asyncio.to_thread(lambda: [path for path in now.changed if _is_small(root / path)])
    kept = kept[:MOST_KEPT]
    patch = await repository.git.run(*sides, "--", *kept) if kept else b""
    return TakenBack(now.changed, tuple(kept), patch)


def _is_small(path: Path) -> bool:
    """Whether a file is small enough to keep; one that was deleted is."""
    try:
        return path.lstat().st_size <= MOST_KEPT_BYTES
    except OSError:
        return True
