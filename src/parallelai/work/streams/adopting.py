"""A merge with the target, or a rebase onto it, that a person made in a worktree: it is taken for what it is.

Commits that are not ours are undone, and their content is committed by us. So that what a person settled is not in
conflict again when it lands, git's own merge of both sides becomes the branch's last commit first, with its markers;
what the person made of it is then judged as any other edit.
"""

from __future__ import annotations

import asyncio
import dataclasses

from parallelai.engines.planted import read_plain
from parallelai.errors import UsageError
from parallelai.git.merging import Conflicted, merge
from parallelai.git.plumbing import Git
from parallelai.git.repository import Repository
from parallelai.work.resolvers.checking import MAX_BYTES, has_marker
from parallelai.work.resolvers.records import Conflict
from parallelai.work.streams.carrying import as_commit
from parallelai.work.streams.now import find_place
from parallelai.work.streams.places import Place, first_line
from parallelai.work.streams.record import Stream
from parallelai.work.streams.registry import Streams

_REBASES = ("rebase-merge", "rebase-apply")


async def adopt(repository: Repository, streams: Streams, stream: Stream, target: str) -> Stream:
    """Go on from what a person brought in of the target (its tip), if anything; the files stay as they are.

    Raises:
        UsageError: a rebase is not finished there, or conflict markers are left.
        GitError: git failed.
    """
    place = find_place(repository, stream)
    _refuse_rebase(place, stream)
    brought = await _brought(repository, place, stream, target)
    if brought is None:
        return stream
    merged = await merge(repository.git, stream.head, brought)
    left = [each.path for each in merged.conflicts if await _has_marker(repository.git, place, each)]
    if left:
        named = ", ".join(f"`{path}`" for path in left[:5])
        raise UsageError(
            f"conflict markers are left in {named}",
            where=stream.worktree,
            next=f"settle them there, then `parallelai work done {stream.name}` again",
        )
    message = f"Merge `{stream.target}` into `{stream.branch}`, to be settled\n"
    made = await as_commit(repository, merged.tree, (stream.head, brought), message.encode())
    paths = tuple(dict.fromkeys((*stream.unsettled, *(each.path for each in merged.conflicts))))
    return streams.update(
        stream.name,
        lambda it: dataclasses.replace(it, head=made, base=brought, unsettled=paths, approved_head=None),
    )


def _refuse_rebase(place: Place, stream: Stream) -> None:
    if any((place.entry.admin / name).exists() for name in _REBASES):
        raise UsageError(
            "a rebase is not finished in the worktree",
            where=stream.worktree,
            next=f"`git rebase --continue` or `--abort` there, then `parallelai work done {stream.name}` again",
        )


async def _brought(repository: Repository, place: Place, stream: Stream, target: str) -> str | None:
    """The newest commit of the target that a merge or a rebase has brought, and we have not; None for none."""
    tip = await repository.commit(f"refs/heads/{stream.branch}")
    merging = await asyncio.to_thread(first_line, place.entry.admin / "MERGE_HEAD")
    for head in filter(None, (merging and await repository.commit(merging), tip)):
        shared = await repository.git.attempt("merge-base", head, target)
        found = shared.stdout.decode().strip()
        if shared.exit == 0 and not await repository.ancestor(found, stream.head):
            return found
    return None


async def _has_marker(git: Git, place: Place, conflict: Conflicted) -> bool:
    """Whether a file that was in conflict still has markers, which are lines of neither side."""
    try:
        text = await asyncio.to_thread(read_plain, place.path / conflict.path, MAX_BYTES)
    except OSError:  # it was removed, or is no file any more: that settles it, too
        return False
    ours, theirs = await _blob(git, conflict, 2), await _blob(git, conflict, 3)
    return has_marker(Conflict(conflict.path, None, ours, theirs), text)


async def _blob(git: Git, conflict: Conflicted, stage: int) -> bytes | None:
    entry = conflict.stages.get(stage)
    if entry is None or not entry.mode.startswith("100"):
        return None
    return await git.run("cat-file", "blob", entry.blob)
