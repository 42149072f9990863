"""What a workstream has that its target has not, as a patch."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from pathlib import Path

from parallelai.client.workstreams.landable import worktree_gone
from parallelai.git.repository import Repository
from parallelai.work.streams.landed import held_since
from parallelai.work.streams.now import current
from parallelai.work.streams.record import Stream
from parallelai.work.streams.registry import is_finished


@dataclasses.dataclass(frozen=True, slots=True)
class Difference:
    """What a workstream has, as a patch, that its target has not; `is_merged`: it has all of it by now."""

    patch: str
    is_merged: bool = False


async def difference(repository: Repository, stream: Stream) -> Difference:
    """Give it; of a workstream that was given up the patch that it is kept in.

    Raises `UsageError` where its worktree is gone.
    """
    is_there = Path(stream.worktree).is_dir()
    if stream.state == "dropped" and stream.patch and not is_there and os.path.lexists(stream.patch):
        kept = await asyncio.to_thread(Path(stream.patch).read_bytes)  # what was not committed, too
        return Difference(kept.decode("utf-8", "replace"))
    if not is_finished(stream) and not is_there:
        raise worktree_gone(repository, stream)
    now = await current(repository, stream) if is_there else stream.head
    options = ("-r", "-p", "--find-renames", "--full-index")
    base = stream.base if is_finished(stream) else await held_since(repository, stream, now)
    patch = await repository.git.run("diff-tree", *options, base, now)
    is_merged = base == now and await repository.tree(now) != await repository.tree(stream.base)
    return Difference(patch.decode("utf-8", "replace"), is_merged)
