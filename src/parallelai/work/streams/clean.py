"""The end of worktrees: what has landed and is clean is removed, what is given up is kept as a patch.

Nothing is removed whose content is not proven to be in the target, or in a patch on the disk. It is looked at
twice: the second time after its folder was moved aside, where nobody who knows its path writes any more.
"""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import replace
from pathlib import Path

from msgspec import Struct

from parallelai.errors import UsageError
from parallelai.git.merging import merge
from parallelai.git.plumbing import failure
from parallelai.git.repository import Repository
from parallelai.processes.removing import remove as remove_folder
from parallelai.store.files import write_whole
from parallelai.work.landing.history import to_merge
from parallelai.work.landing.rows import rows_of
from parallelai.work.sheltering import folder_of
from parallelai.work.streams import aside, inner, sheltered
from parallelai.work.streams.adopting import brought_in, merging_in
from parallelai.work.streams.kept import (
    Kept,
    as_worktree,
    lands,
    not_ours,
    removes,
    taken_back,
    uncommitted,
    unlock,
)
from parallelai.work.streams.landed import is_taken_over, landed_by_content
from parallelai.work.streams.left import Left, keep, listed
from parallelai.work.streams.locks import clear_stale, making
from parallelai.work.streams.moved import back, moved_to, refuse_moved
from parallelai.work.streams.now import Now, find_place, measure
from parallelai.work.streams.places import QUIET, Entry, Place, entries, entry_of
from parallelai.work.streams.record import State, Stream
from parallelai.work.streams.registry import Streams, is_finished
from parallelai.work.streams.unfinished import UNFINISHED, alone, beside, own_side, told

Release = Callable[[Stream], Awaitable[None]]
"""Gives back what the ledger gave to a workstream."""


class Removed(Struct, frozen=True):
    """A workstream whose worktree and branch are gone. `branch` is None where that stayed, or was gone.

    `left` is a folder with what is not ours to remove of it, if there was something.
    """

    stream: Stream
    worktree: str
    branch: str | None
    left: Path | None = None


class Dropped(Struct, frozen=True):
    """A workstream that was given up. `patch` holds its work, None where there was none; `notes` say what stays."""

    stream: Stream
    patch: Path | None
    notes: tuple[str, ...] = ()


class Cleanable(Struct, frozen=True):
    """What `work clean` would do."""

    removable: tuple[Stream, ...]
    kept: tuple[Kept, ...]


async def removable(repository: Repository, streams: Streams, *, in_use: Collection[str] = ()) -> Cleanable:
    """Say which worktrees may be removed; `in_use` are names of workstreams that somebody works on now."""
    good: list[Stream] = []
    kept: list[Kept] = []
    left: dict[str, list[Left]] = {}
    for each in await listed(repository):
        left.setdefault(each.name, []).append(each)
    for stream in streams.all():
        kept += map(_taken_out, left.pop(stream.name, ()))
        aside.put_back(Path(stream.worktree))
        if not await is_there(repository, stream):
            continue
        reason = await _reason(repository, streams, stream, in_use)
        if reason is None:
            good.append(stream)
        else:
            kept.append(reason)
    for unknown in left.values():  # workstreams of these names are in no record any more
        kept += map(_taken_out, unknown)
    return Cleanable(tuple(good), tuple(kept))


async def remove(
    repository: Repository,
    streams: Streams,
    stream: Stream,
    *,
    in_use: Collection[str] = (),
    release: Release | None = None,
) -> Removed | Kept:
    """Remove worktree and branch of a workstream that has landed and is clean; else give why it is kept.

    What it did stays in the registry. Run again after a crash it goes on.
    """
    async with making(streams.state):
        return await _remove(repository, streams, stream, in_use, release)


def what_stays(done: Removed | Kept) -> list[Kept]:
    """What is told of what is there after `remove`. Pure."""
    if isinstance(done, Kept):
        return [done]
    return [] if done.left is None else [not_ours(done.stream.name, done.left)]


async def clear_for_next(repository: Repository, streams: Streams, before: Stream) -> None:
    """Make room for a workstream of the same name. Raises `UsageError` where that would lose something."""
    aside.put_back(Path(before.worktree))
    if await is_there(repository, before):
        done = await _remove(repository, streams, before, (), None)
        if isinstance(done, Kept):
            raise UsageError(f"an earlier workstream `{before.name}`: {done.why}", next=f"`{done.command}`")


async def drop(
    repository: Repository, streams: Streams, stream: Stream, patches: Path, *, release: Release | None = None
) -> Dropped:
    """Give a workstream up: all that it changed, committed or not, is kept as a patch, and its worktree removed.

    Args:
        patches: the folder for the patch, `<name>.patch`; a number is added where that is taken.

    Raises:
        UsageError: its worktree is locked, was moved, or was changed while this ran.
        StoreFullError: the patch cannot be written; nothing was removed.
    """
    async with making(streams.state):
        aside.put_back(Path(stream.worktree))
        refuse_moved(repository, stream)
        entry = entry_of(repository, Path(stream.worktree))
        if entry is not None and entry.locked is not None and entry.locked != "initializing":
            raise UsageError(
                f"the worktree `{stream.worktree}` is locked", next=f"`{unlock(stream.worktree)}`"
            )
        await asyncio.to_thread(clear_stale, repository, stream)
        now = await _now(repository, stream, entry)
        is_gone = not os.path.lexists(stream.worktree)
        is_kept = stream.state == "dropped" and is_gone and now.tip == stream.head  # but for the branch
        path = Path(stream.worktree)
        known = None if entry is None else Place(repository, replace(entry, path=path))
        place = known if path.is_dir() else None
        own, left = (now, _lost(stream, entry)) if place is None else await _own(place, stream, now)
        left += () if known is None else await _left(stream, await beside(known, now), repository)
        left += await _left(stream, await sheltered.commits(repository, streams, stream, now.tip), repository)
        patch = None if is_kept else await _keep(repository, stream, own, place, patches)
        if place is not None:
            edits = await inner.edits(place, streams, stream, now)
            left += () if edits is None else (await edits.keep(),)
        notes = await _let_go(repository, streams, stream, now, known)
        written = None if patch is None else str(patch)
        state: State = "landed" if stream.state == "landed" else "dropped"
        dropped = streams.update(
            stream.name, lambda each: replace(each, state=state, head=now.tip, patch=written or each.patch)
        )
        if not notes:
            await _forget_worktree(repository, streams, dropped, now.tip)
            if (stuck := await asyncio.to_thread(aside.sweep, path)) is not None:
                left += (f"`{stuck}` is not yours to remove: `{removes(stuck)}`",)
        if release is not None:
            await release(dropped)
        return Dropped(dropped, patch, (*left, *notes))


# -- what speaks against it


async def is_there(repository: Repository, stream: Stream) -> bool:
    """Whether anything is left of a workstream: its folder, what git knows of it, its branch."""
    path = Path(stream.worktree)
    if os.path.lexists(path) or entry_of(repository, path) is not None:
        return True
    return await repository.commit(f"refs/heads/{stream.branch}") is not None


def _taken_out(left: Left) -> Kept:
    said = f"what was taken out of its worktree is kept in git: `{left.lets_go}` lets it go"
    return Kept(left.name, said, left.takes)


async def _reason(
    repository: Repository, streams: Streams, stream: Stream, in_use: Collection[str]
) -> Kept | None:
    """Why a workstream has to stay; None where it may go."""
    name = shlex.quote(stream.name)
    if stream.name in in_use:
        return Kept(stream.name, "somebody works on it now", f"parallelai work stop {name}")
    if stream.state == "dropped":
        return Kept(
            stream.name, "it was given up, and its worktree is still there", f"parallelai work drop {name}"
        )
    if stream.landed is not None and stream.landed.pending is not None:
        pending = stream.landed.pending
        if not await is_taken_over(repository, stream.landed):
            is_behind = await repository.ancestor(f"refs/heads/{stream.target}", stream.landed.commit)
            only = "--ff-only " if is_behind else ""
            command = f"git -C {shlex.quote(str(repository.root))} merge {only}{shlex.quote(pending)}"
            return Kept(stream.name, f"it landed on `{pending}`, which `{stream.target}` has not", command)
    return await _worktree_reason(repository, streams, stream) or await _branch_reason(repository, stream)


async def _worktree_reason(repository: Repository, streams: Streams, stream: Stream) -> Kept | None:
    path = Path(stream.worktree)
    entry = entry_of(repository, path)
    shown = shlex.quote(str(path))
    elsewhere = moved_to(repository, stream)
    if elsewhere is not None:
        return Kept(stream.name, f"its worktree was moved to `{elsewhere}`", back(elsewhere, stream))
    if entry is None:
        if os.path.lexists(path):
            return Kept(stream.name, f"`{path}` is no worktree any more", as_worktree(stream))
        return None
    if entry.locked is not None:
        return Kept(stream.name, "its worktree is locked", unlock(str(path)))
    if not path.is_dir():
        return await _gone_reason(Place(repository, replace(entry, path=path)), streams, stream)
    if any((entry.admin / left).exists() for left in UNFINISHED):  # git switches to no branch then
        return Kept(
            stream.name, "a merge or rebase is not finished in its worktree", f"git -C {shown} status"
        )
    if entry.branch != stream.branch:
        command = f"git -C {shown} switch {shlex.quote(stream.branch)}"
        return Kept(stream.name, f"its worktree is not on `{stream.branch}`", command)
    return await _content_reason(Place(repository, replace(entry, path=path)), streams, stream)


async def _gone_reason(place: Place, streams: Streams, stream: Stream) -> Kept | None:
    """What git's own folder of a worktree has that is gone: commits on no branch, and in submodules."""
    tip = await place.repository.commit(f"refs/heads/{stream.branch}") or stream.head
    for commit, said in await alone(place, tip):
        command = shlex.join(["git", "branch", f"{stream.name}-{commit[:10]}", commit])
        return Kept(stream.name, f"its worktree is gone, and {said} would be lost", command)
    unsafe = await inner.unsafe(place, stream, tip, folder_of(streams.state, stream.name))
    return None if unsafe is None else Kept(stream.name, unsafe.said, unsafe.command)


async def _content_reason(place: Place, streams: Streams, stream: Stream) -> Kept | None:
    now = await measure(place.repository, stream)
    if (
        unsafe := await inner.unsafe(place, stream, now.commit, folder_of(streams.state, stream.name))
    ) is not None:
        return Kept(stream.name, unsafe.said, unsafe.command)
    if now.changed or now.left_out:
        return uncommitted(stream, now)
    if edits := await inner.edits(place, streams, stream, now):
        how = "drop" if is_finished(stream) else "done"
        said = f"{edits.said} is in no commit: `parallelai work {how}` keeps it as a patch"
        return Kept(stream.name, said, f"parallelai work {how} {shlex.quote(stream.name)}")
    return None


async def _branch_reason(repository: Repository, stream: Stream) -> Kept | None:
    tip = await repository.commit(f"refs/heads/{stream.branch}")
    if tip is None:
        return None
    name = shlex.quote(stream.name)
    target = await repository.commit(f"refs/heads/{stream.target}")
    is_new = not is_finished(stream) and await repository.tree(tip) == await repository.tree(stream.base)
    if is_new:
        return Kept(
            stream.name, "it is open, and has no work on its branch yet", f"parallelai work drop {name}"
        )
    if target is None:
        last = stream.landed.commit if stream.landed is not None else stream.base  # that is known of it
        command = f"git branch {shlex.quote(stream.target)} {last}"
        return Kept(stream.name, f"its target `{stream.target}` is gone", command)
    if await landed_by_content(repository, tip, target):
        if await _is_ours(repository, stream) or await _still_holds(repository, stream, tip, target):
            return None
        return taken_back(stream, tip)
    command = lands(stream, tip)
    if stream.landed is not None and await repository.ancestor(stream.landed.commit, target):
        # Its own landing is over: what came to the branch since lands as that of any other branch.
        command = f"parallelai work land --branches {shlex.quote(stream.branch)}"
    return Kept(stream.name, f"its work is not in `{stream.target}`", command)


async def _is_ours(repository: Repository, stream: Stream) -> bool:
    """Whether a commit of ours landed it: what a person merged, a person may have taken back without a word of it."""
    landed = stream.landed
    return landed is not None and any(row.lands for row in await rows_of(repository, [landed.commit]))


async def _still_holds(repository: Repository, stream: Stream, tip: str, target: str) -> bool:
    """Whether the target has each file as the branch made it: a merge may have been taken back since."""
    git = repository.git
    listed = await git.run("diff-tree", "-r", "-z", "--name-only", "--no-renames", stream.base, tip)
    changed = {path for path in listed.split(b"\0") if path}
    differing = await git.run("diff-tree", "-r", "-z", "--name-only", "--no-renames", tip, target)
    return changed.isdisjoint(differing.split(b"\0"))


# -- removing


async def _remove(
    repository: Repository,
    streams: Streams,
    stream: Stream,
    in_use: Collection[str],
    release: Release | None,
) -> Removed | Kept:
    path = Path(stream.worktree)
    aside.put_back(path)
    await asyncio.to_thread(clear_stale, repository, stream)
    reason = await _reason(repository, streams, stream, in_use)
    if reason is not None:
        return reason
    tip = await repository.commit(f"refs/heads/{stream.branch}")
    if not is_finished(stream):
        stream = streams.update(stream.name, lambda known: replace(known, state="landed"))
    if not await _is_same(repository, stream, tip):
        command = f"git -C {shlex.quote(str(path))} status"
        return Kept(stream.name, "it was changed while it was to be removed", command)
    await _left(stream, await sheltered.commits(repository, streams, stream, tip or stream.head), repository)
    branch = await _forget_worktree(repository, streams, stream, tip)
    if release is not None:
        await release(stream)
    return Removed(stream, stream.worktree, branch, await asyncio.to_thread(aside.sweep, path))


async def _is_same(repository: Repository, stream: Stream, tip: str | None) -> bool:
    """Move the folder aside, and see that it still holds what was looked at; else it is put back."""
    path = Path(stream.worktree)
    moved = await asyncio.to_thread(aside.put_aside, path)
    if moved is None:
        return True
    now = await measure(repository, stream, moved)
    if now.commit == tip and not now.left_out and not await _is_unsafe(repository, stream, now, moved):
        return True
    aside.put_back(path)
    return False


async def _is_unsafe(repository: Repository, stream: Stream, now: Now, moved: Path) -> bool:
    """Whether there is something by now in a repository inside of a folder that was moved aside."""
    place = find_place(repository, stream)
    there = Place(repository, replace(place.entry, path=moved))
    return await inner.unsafe(there, stream, now.commit) is not None


async def _forget_worktree(
    repository: Repository, streams: Streams, stream: Stream, tip: str | None
) -> str | None:
    """Remove the folder that was moved aside, what git knows of it, and the branch; gives the branch."""
    path = Path(stream.worktree)
    await asyncio.to_thread(aside.finish, path)
    await asyncio.to_thread(remove_folder, folder_of(streams.state, stream.name))
    entry = entry_of(repository, path)
    if entry is not None and not os.path.lexists(path):
        words = ("worktree", "remove", "--force", "--force", str(path))
        done = await repository.as_user(*QUIET, *words)
        if done.exit != 0:
            raise failure(words, done)
    if tip is None or await _is_elsewhere(repository, stream):
        return None
    # By compare-and-swap: what was committed to it since is no work that was looked at.
    ref = f"refs/heads/{stream.branch}"
    return stream.branch if await repository.delete(ref, tip) else None


async def _is_elsewhere(repository: Repository, stream: Stream) -> bool:
    """Whether somebody has the branch checked out."""
    if any(entry.branch == stream.branch and entry.path.exists() for entry in entries(repository)):
        return True
    return not repository.is_bare and await repository.branch() == stream.branch


# -- giving up


async def _now(repository: Repository, stream: Stream, entry: Entry | None) -> Now:
    """What a workstream has, wherever it is."""
    if entry is not None and Path(stream.worktree).is_dir():
        return await measure(repository, stream)
    if os.path.lexists(stream.worktree):
        raise UsageError(
            f"`{stream.worktree}` is no worktree any more", next=f"`{as_worktree(stream)}`, then try again"
        )
    tip = await repository.commit(f"refs/heads/{stream.branch}") or await repository.commit(stream.head)
    return Now(tip or stream.base, tip or stream.base)


async def _own(place: Place, stream: Stream, now: Now) -> tuple[Now, tuple[str, ...]]:
    """What is the workstream's own of what lies there, and what is said of the rest, which is kept in git."""
    own = await own_side(place, stream, now)
    whole = [] if own.commit == now.commit else [(now.commit, told(place))]
    return own, await _left(stream, whole, place.repository)


async def _left(stream: Stream, those: Iterable[tuple[str, str]], repository: Repository) -> tuple[str, ...]:
    """Keep commits in git, and say where: each comes with what it is."""
    notes = []
    for commit, said in those:
        kept = Left(await keep(repository, stream.run, stream.name, commit), commit)
        notes.append(f"{said} is kept in git: `{kept.takes}` takes it, `{kept.lets_go}` lets it go")
    return tuple(notes)


def _lost(stream: Stream, entry: Entry | None) -> tuple[str, ...]:
    """What is told of a worktree that somebody moved or removed without git."""
    if entry is None or stream.state == "dropped":
        return ()
    return (f"`{stream.worktree}` was gone: what was not committed in it is in no patch",)


async def _keep(
    repository: Repository, stream: Stream, now: Now, place: Place | None, patches: Path
) -> Path | None:
    """Write the patch from the base to what is there now; None where nothing differs."""
    merging = await merging_in(repository, place) if place is not None else None
    base, whole = await _work(repository, stream, now, merging)
    words = ("diff-tree", "-r", "-p", "--binary", "--full-index", "--no-renames", base, whole)
    patch = await repository.git.run(*words)
    if not patch:
        return None
    head = f"Workstream: {stream.name}\nBranch: {stream.branch} at {now.tip}\nBase: {base}\n\n"
    data = os.fsencode(head) + patch
    names = (f"{stream.name}.patch", *(f"{stream.name}-{number}.patch" for number in range(2, 10_000)))
    for path in (patches / name for name in names):
        if not os.path.lexists(path):
            await asyncio.to_thread(write_whole, path, data)
            return path
        if await asyncio.to_thread(_holds, path, data):
            return path
    raise UsageError(f"`{patches}` holds too many patches of `{stream.name}`", next="move them away")


async def _work(repository: Repository, stream: Stream, now: Now, merging: str | None) -> tuple[str, str]:
    """The commit, and a tree or commit, between which the work lies: nothing of the target that a person brought in.

    `merging` is what a merge brings in that is not committed yet.
    Where `work undo` took that work back, git took it out of the files as the target came in: it is there again.
    """
    target = await repository.commit(f"refs/heads/{stream.target}")
    heads = [now.tip, *([merging] if merging else [])]
    base = await brought_in(repository, stream, target, heads) if target is not None else None
    if base is None:
        return stream.base, now.commit
    work = await to_merge(repository, stream, stream.head, base)
    if work == stream.head:
        return base, now.commit
    both = await merge(repository.git, now.commit, work)
    return base, both.tree if both.is_clean or both.conflicts else now.commit


def _holds(path: Path, data: bytes) -> bool:
    return path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data


async def _let_go(
    repository: Repository, streams: Streams, stream: Stream, now: Now, place: Place | None
) -> list[str]:
    """Move the folder aside once all of it is kept; gives why it has to stay, if so."""
    shelter = folder_of(streams.state, stream.name)
    unsafe = None if place is None else await inner.unsafe(place, stream, now.commit, shelter)
    if unsafe is not None:
        how = f"`{unsafe.command}`, then `parallelai work drop {shlex.quote(stream.name)}` again"
        return [f"`{stream.worktree}` stays: {unsafe.said}: {how}"]
    if now.left_out:
        shown = ", ".join(f"`{each}`" for each in now.left_out[:5])
        how = f"move that away, then `parallelai work drop {shlex.quote(stream.name)}` again"
        return [f"`{stream.worktree}` stays: no patch can hold {shown}: {how}"]
    path = Path(stream.worktree)
    moved = await asyncio.to_thread(aside.put_aside, path)
    if moved is None:
        return [f"`{path}` stays: it is a link"] if path.is_symlink() else []
    again = await measure(repository, stream, moved)
    is_same = again.commit == now.commit and not again.left_out
    if is_same and not await _is_unsafe(repository, stream, again, moved):
        return []
    aside.put_back(path)
    raise UsageError(f"`{path}` was changed while it was given up", next="try again")
