"""Brings the target into a worktree also where git cannot merge it: with git's markers, for its assistant to settle.

The merge is a commit of the branch, so that what the assistant makes of it merges cleanly afterwards. The files with
markers are written into the workstream's record first: nothing lands as long as one is left in them.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

from parallelai.git.merging import merge
from parallelai.git.plumbing import failure
from parallelai.git.repository import Repository
from parallelai.work.streams import syncing
from parallelai.work.streams.carrying import as_commit
from parallelai.work.streams.record import Stream
from parallelai.work.streams.registry import Streams
from parallelai.work.streams.syncing import Synced

MARKER = "^(<<<<<<<|>>>>>>>) [0-9a-f]{40}"
"""What git begins and ends a conflict with when it merges commits by their hashes; no text has that by chance."""


async def take_over(repository: Repository, streams: Streams, stream: Stream, onto: str) -> Synced:
    """Bring a commit of the target into a worktree that is committed, with markers where it conflicts.

    What has no text to put markers into (a file that one side removed, say) is not brought in: `Synced.ok` is
    false, and nothing is touched. Raises as `syncing.sync` does.
    """
    tip = await repository.commit(f"refs/heads/{stream.branch}") or stream.head
    merged = await merge(repository.git, tip, onto)
    if merged.is_clean:
        return await syncing.sync(repository, streams, stream, onto, "merge")
    files = tuple(conflict.path for conflict in merged.conflicts)
    if await marked(repository, merged.tree, files) != files:
        return Synced(False, stream, why="git cannot put both sides into one file", files=files)
    message = f"Merge `{stream.target}` into `{stream.branch}`, to be settled\n"
    made = await as_commit(repository, merged.tree, (tip, onto), message.encode())
    streams.update(stream.name, lambda it: dataclasses.replace(it, unsettled=files, approved_head=None))
    return await syncing.sync(repository, streams, stream, made, "merge", base=onto)


async def marked(repository: Repository, tree: str, files: Sequence[str]) -> tuple[str, ...]:
    """Those of some files of a tree or commit that have git's conflict markers in them. Raises `GitError`."""
    if not files:
        return ()
    arguments = ("grep", "-l", "-z", "-E", "-e", MARKER, tree, "--", *files)
    done = await repository.git.attempt(*arguments)
    if done.exit not in (0, 1) or done.is_truncated:
        raise failure(arguments, done)
    found = {os.fsdecode(name).removeprefix(f"{tree}:") for name in done.stdout.split(b"\0") if name}
    return tuple(path for path in files if path in found)
