"""Brings the target into a worktree also where git cannot merge it, for its assistant to settle.

Text gets git's markers; of what has none to put them into, the other version lies beside it (`beside`). The merge is a
commit of the branch, so that what the assistant makes of it merges cleanly afterwards. What is to be settled is written
into the workstream's record first: nothing lands as long as a marker, or a file beside another, is left.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

from parallelai.git.merging import merge
from parallelai.git.plumbing import failure
from parallelai.git.repository import Repository
from parallelai.work.streams import syncing
from parallelai.work.streams.beside import belongs_to, beside, held_at, with_entries
from parallelai.work.streams.carrying import as_commit
from parallelai.work.streams.now import find_place
from parallelai.work.streams.record import Stream
from parallelai.work.streams.registry import Streams
from parallelai.work.streams.sparse import left_out
from parallelai.work.streams.syncing import Synced

MARKER = "^(<<<<<<<|>>>>>>>) [0-9a-f]{40}"
"""What git begins and ends a conflict with when it merges commits by their hashes; no text has that by chance."""


async def take_over(repository: Repository, streams: Streams, stream: Stream, onto: str) -> Synced:
    """Bring a commit of the target into a worktree that is committed, to be settled where it conflicts.

    What no worktree can hold both versions of (a submodule is a commit, not a file), what a sparse one would not show,
    and what git cannot merge at all, is not brought in: `Synced.ok` is false, and nothing is touched. Raises as
    `syncing.sync` does.
    """
    tip = await repository.commit(f"refs/heads/{stream.branch}") or stream.head
    merged = await merge(repository.git, tip, onto)
    if merged.is_clean:
        return await syncing.sync(repository, streams, stream, onto, "merge")
    paths = tuple(conflict.path for conflict in merged.conflicts)
    texts = await _marked(repository, merged.tree, paths)
    others = [conflict for conflict in merged.conflicts if conflict.path not in texts]
    held = await held_at(repository, merged.tree, [each.path for each in others])
    more = beside(others, held, tip, onto)
    files = (*texts, *(more or ()), *(path for path in held if belongs_to(path) is not None))
    if more is None or not files:
        return Synced(False, stream, why="git cannot put both sides into one worktree", files=paths)
    if stream.is_sparse and (hidden := await left_out(find_place(repository, stream), files)):
        why = "the worktree holds a part of the files, and would not have all that is to be settled"
        return Synced(False, stream, why=why, files=hidden)
    tree = await with_entries(repository, merged.tree, more) if more else merged.tree
    message = f"Merge `{stream.target}` into `{stream.branch}`, to be settled\n"
    made = await as_commit(repository, tree, (tip, onto), message.encode())

    def noted(it: Stream) -> Stream:
        # What came in before stays, too: `unsettled` says, of the branch, what is settled by now.
        files_left = tuple(dict.fromkeys((*it.unsettled, *files)))
        return dataclasses.replace(it, unsettled=files_left, approved_head=None)

    streams.update(stream.name, noted)
    synced = await syncing.sync(repository, streams, stream, made, "merge", base=onto)
    if not synced.ok:  # nothing came in, so what a person saw is what there is
        was = (stream.unsettled, stream.approved_head)
        streams.update(
            stream.name, lambda it: dataclasses.replace(it, unsettled=was[0], approved_head=was[1])
        )
    return synced


async def unsettled(repository: Repository, tree: str, files: Sequence[str]) -> tuple[str, ...]:
    """Those of some files of a tree or commit that are not settled: with markers, or beside another file.

    Raises `GitError`.
    """
    texts = await _marked(repository, tree, files)
    there = await held_at(repository, tree, [path for path in files if belongs_to(path) is not None])
    return tuple(path for path in files if path in texts or path in there)


def settling(stream: Stream) -> frozenset[str]:
    """What a workstream may change for the time, whoever owns it: the files that it has to settle."""
    return frozenset(path for each in stream.unsettled for path in (each, belongs_to(each)) if path)


async def _marked(repository: Repository, tree: str, files: Sequence[str]) -> tuple[str, ...]:
    """Those of some files that have git's conflict markers in them. Raises `GitError`."""
    if not files:
        return ()
    arguments = ("grep", "-l", "-z", "-E", "-e", MARKER, tree, "--", *files)
    done = await repository.git.attempt(*arguments)
    if done.exit not in (0, 1) or done.is_truncated:
        raise failure(arguments, done)
    found = {os.fsdecode(name).removeprefix(f"{tree}:") for name in done.stdout.split(b"\0") if name}
    return tuple(path for path in files if path in found)
