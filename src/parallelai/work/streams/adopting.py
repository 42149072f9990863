"""A merge with the target, or a rebase onto it, that a person made in a worktree: it is taken for what it is.

Commits that are not ours are undone, and their content is committed by us. So that what a person settled is not in
conflict again when it lands, git's own merge of both sides becomes the branch's last commit first, with its markers;
what the person made of it is then judged as any other edit.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from parallelai.engines.planted import read_plain
from parallelai.errors import UsageError
from parallelai.git.merging import Conflicted, Merged, merge
from parallelai.git.plumbing import Git
from parallelai.git.repository import Repository
from parallelai.processes.temporary import temporary_folder
from parallelai.work.landing.history import to_merge
from parallelai.work.resolvers.checking import MAX_BYTES, has_marker
from parallelai.work.resolvers.records import Conflict
from parallelai.work.streams.beside import belongs_to, lying_beside
from parallelai.work.streams.carrying import as_commit, trees
from parallelai.work.streams.indexes import copy_plain
from parallelai.work.streams.markers import brought
from parallelai.work.streams.now import current, find_place
from parallelai.work.streams.places import Place, first_line
from parallelai.work.streams.record import Stream
from parallelai.work.streams.registry import Streams
from parallelai.work.streams.taking_over import unsettled

_REBASES = ("rebase-merge", "rebase-apply")
_MOST = 5
"""How many files are named."""
_MARKER = "^(<<<<<<<|>>>>>>>)( |$)"


async def adopt(repository: Repository, streams: Streams, stream: Stream, target: str) -> Stream:
    """Go on from what a person brought in of the target (its tip), if anything; the files stay as they are.

    Raises:
        UsageError: a merge or a rebase is not finished there, or it is none that can be taken.
        GitError: git failed.
    """
    place = find_place(repository, stream)
    if any((place.entry.admin / name).exists() for name in _REBASES):
        what = "`git rebase --continue` or `git rebase --abort`"
        raise _unfinished(stream, "a rebase is not finished in the worktree", what)
    tip = await repository.commit(f"refs/heads/{stream.branch}") or stream.head
    merging = await merging_in(repository, place)
    brought = await brought_in(repository, stream, target, [tip, *([merging] if merging else [])])
    if brought is None:
        return stream
    if place.entry.branch != stream.branch:
        raise _unfinished(stream, "the worktree is not on its branch", f"`git switch {stream.branch}`")
    await _refuse_emptied(repository, stream, brought)
    merged = await merge(repository.git, stream.head, brought)
    halves = [merged, *([await merge(repository.git, tip, merging)] if merging else [])]
    await _refuse_open(repository, place, stream, halves, is_merging=merging is not None)
    made = brought
    if not await repository.ancestor(stream.head, brought):
        message = f"Merge `{stream.target}` into `{stream.branch}`, to be settled\n"
        made = await as_commit(repository, merged.tree, (stream.head, brought), message.encode())
    paths = tuple(dict.fromkeys((*stream.unsettled, *(each.path for each in merged.conflicts))))
    return streams.update(
        stream.name,
        lambda it: dataclasses.replace(it, head=made, base=brought, unsettled=paths, approved_head=None),
    )


async def left_open(repository: Repository, before: Stream, now: Stream) -> tuple[str, ...]:
    """The files of a branch that are not settled: those that are known as such, and what both sides changed.

    `before` is the workstream as it was before `adopt`. Raises `GitError`.
    """
    known = await unsettled(repository, now.base, now.head, now.unsettled)
    both = set(now.unsettled)
    if now.base != before.base:
        ours = await trees(repository, before.base, now.head)
        theirs = await trees(repository, before.base, now.base)
        both |= {each.path for each in ours} & {each.path for each in theirs}
    marked = [each.path for each in await brought(repository, now.base, now.head)]
    return tuple(dict.fromkeys((*known, *(path for path in marked if path in both))))


async def taken_out(repository: Repository, before: Stream, now: Stream) -> str:
    """Say what git took out of work that `work undo` took back, as the target came in; nothing where all is there.

    What a person did in another way is not named. `before` is the workstream as it was before `adopt`.
    """
    if now.base == before.base:
        return ""
    work = await to_merge(repository, before, before.head, now.base)
    if work == before.head:
        return ""
    whole = await merge(repository.git, now.head, work)
    other = {each.path for each in whole.conflicts}
    missing = [each.path for each in await trees(repository, now.head, whole.tree)]
    paths = [path for path in missing if path.partition("~")[0] not in other]  # git's name for the other side
    if not paths:
        return ""
    named = ", ".join(f"`{path}`" for path in paths[:_MOST])
    more = f" and {len(paths) - _MOST} more" if len(paths) > _MOST else ""
    said = f"what was taken back is not in {named}{more} any more: git took it out as `{now.target}` came in"
    back = (
        f"`git cherry-pick -n {work[:10]}` there puts it back, then `parallelai work done {now.name}` again"
    )
    return f"note: {said}; {back}"


def not_settled(stream: Stream, paths: Sequence[str]) -> UsageError:
    """The error of a worktree in which files are in conflict still."""
    named = ", ".join(f"`{path}`" for path in paths[:_MOST])
    texts = any(belongs_to(path) is None for path in paths)
    what = ["settle them, and `git add` what has no markers"] if texts else []
    what += lying_beside(Path(stream.worktree), paths)[:_MOST]
    error = _unfinished(stream, f"conflicts are not settled in {named}", "; ".join(what))
    if texts:
        # Which lines are git's, and which a person wants, nobody can tell in a file that was in conflict.
        merging = f"`git merge {stream.branch}` where `{stream.target}` is checked out, then `parallelai work clean`"
        by_hand = f"see that it is committed there, and {merging}"
        error.next = f"{error.next}; if lines like markers belong into the file: {by_hand}"
    return error


def _unfinished(stream: Stream, said: str, what: str) -> UsageError:
    again = f"{what} there, then `parallelai work done {stream.name}` again"
    return UsageError(said, where=stream.worktree, next=again)


async def merging_in(repository: Repository, place: Place) -> str | None:
    """The commit that a merge which is not committed yet brings in."""
    named = await asyncio.to_thread(first_line, place.entry.admin / "MERGE_HEAD")
    return await repository.commit(named) if named else None


async def brought_in(repository: Repository, stream: Stream, target: str, heads: Iterable[str]) -> str | None:
    """The newest commit of the target that a merge or a rebase has brought, and we have not; None for none."""
    newest = None
    for head in heads:
        shared = await repository.git.attempt("merge-base", head, target)
        found = shared.stdout.decode().strip()
        if shared.exit != 0 or await repository.ancestor(found, stream.head):
            continue
        if newest is None or await repository.ancestor(newest, found):
            newest = found
    return newest


async def _refuse_open(
    repository: Repository, place: Place, stream: Stream, halves: Sequence[Merged], *, is_merging: bool
) -> None:
    """Refuse, before anything is touched, what is visibly not settled, or cannot be taken. Raises `UsageError`."""
    if any(not each.is_clean and not each.conflicts for each in halves):
        raise _unfinished(stream, f"git cannot merge `{stream.target}` by itself", "take the merge back")
    conflicts = {each.path: each for half in halves for each in half.conflicts}
    modules = [each.path for each in conflicts.values() if each.kind == "submodule"]
    if modules:
        said = f"both sides moved the submodule `{modules[0]}`, which no worktree can settle"
        raise _unfinished(stream, said, f"move it on `{stream.target}` first, take the merge back")
    marked = {path for half in halves for path in await _marked(repository, half.tree, conflicts)}
    open_there = (await unmerged(place)).keys() if is_merging else set[str]()
    silent = open_there & (conflicts.keys() - marked)
    left = [
        path
        for path, each in conflicts.items()
        if path in silent or (path in marked and await _has_marker(repository.git, place, each))
    ]
    if left:
        raise not_settled(stream, left)


async def _refuse_emptied(repository: Repository, stream: Stream, brought: str) -> None:
    """Refuse a worktree from which git took all that `work undo` took back: to git that was merged. `UsageError`."""
    if await to_merge(repository, stream, stream.head, brought) == stream.head:
        return
    now = await current(repository, stream)
    if await repository.tree(now) == await repository.tree(brought):
        said = (
            f"nothing of `{stream.name}` is in its worktree: `{stream.target}` came in with what took it back"
        )
        what = (
            f"`git reset --hard {stream.head[:10]}` there, and `parallelai work sync {stream.name}` keeps it"
        )
        raise UsageError(
            said, where=stream.worktree, next=f"{what}; then `parallelai work done {stream.name}`"
        )


async def _has_marker(git: Git, place: Place, conflict: Conflicted) -> bool:
    """Whether a file that was in conflict still has markers, which are lines of neither side."""
    try:
        text = await asyncio.to_thread(read_plain, place.path / conflict.path, MAX_BYTES)
    except OSError:  # it was removed, or is no file any more: that settles it, too
        return False
    ours, theirs = await _blob(git, conflict, 2), await _blob(git, conflict, 3)
    return has_marker(Conflict(conflict.path, None, ours, theirs), text)


async def unmerged(place: Place) -> dict[str, dict[str, str]]:
    """The paths that the worktree's index has in conflict, each with the blobs of git's stages of it."""
    with temporary_folder("adopt") as folder:
        index = folder / "index"
        if not await asyncio.to_thread(copy_plain, place.index, index):
            return {}
        listed = await place.outside("ls-files", "-u", "-z", index=index)
    found: dict[str, dict[str, str]] = {}
    for row in listed.stdout.split(b"\0")[:-1]:
        meta, _, path = row.partition(b"\t")
        _, blob, stage = meta.decode().split()
        found.setdefault(os.fsdecode(path), {})[stage] = blob
    return found


async def _marked(repository: Repository, tree: str, paths: Iterable[str]) -> list[str]:
    """Those of some files of a tree or commit with a line that looks like a conflict marker."""
    wanted = set(paths)
    if not wanted:
        return []
    done = await repository.git.attempt("grep", "-l", "-z", "-I", "-E", "-e", _MARKER, tree, "--")
    found = (os.fsdecode(name).partition(":")[2] for name in done.stdout.split(b"\0") if name)
    return sorted(wanted.intersection(found))


async def _blob(git: Git, conflict: Conflicted, stage: int) -> bytes | None:
    entry = conflict.stages.get(stage)
    if entry is None or not entry.mode.startswith("100"):
        return None
    return await git.run("cat-file", "blob", entry.blob)
