"""Taking back what a command left in a worktree whose work is committed: it is nobody's change."""

from __future__ import annotations

import asyncio
import os
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


async def take_back(repository: Repository, stream: Stream) -> TakenBack | None:
    """Put a worktree's files back to what its branch has; None where nothing differed. Raises `GitError`.

    A person may have edited there while a command ran: a patch of it is given.
    """
    place = find_place(repository, stream)
    if await asyncio.to_thread(clear_index, place.index):
        await place.must("read-tree", stream.head)
    now = await measure(repository, stream)
    if not now.changed:
        return None
    taken = await _patch(repository, place.path, now)
    listed = await repository.git.run("ls-tree", "-r", "-z", "--name-only", now.tip)
    tracked = {os.fsdecode(path) for path in listed.split(b"\0") if path}
    for path in now.changed:
        await asyncio.to_thread(folders.clear_away, place.path, path)
    known = [path for path in now.changed if path in tracked]
    if known:
        await place.must("checkout-index", "-f", "-u", "-z", "--stdin", stdin=listing(known))
    return taken


async def _patch(repository: Repository, root: Path, now: Now) -> TakenBack:
    kept = await asyncio.to_thread(lambda: [path for path in now.changed if _is_small(root / path)])
    kept = kept[:MOST_KEPT]
    options = ("-r", "-p", "--binary", "--full-index", "--no-renames")
    patch = await repository.git.run("diff-tree", *options, now.tip, now.commit, "--", *kept) if kept else b""
    return TakenBack(now.changed, tuple(kept), patch)


def _is_small(path: Path) -> bool:
    """Whether a file is small enough to keep; one that was deleted is."""
    try:
        return path.lstat().st_size <= MOST_KEPT_BYTES
    except OSError:
        return True
