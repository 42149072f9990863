"""Carries out what `repairing.steps` decided: makes a worktree, or what is missing of one.

`git worktree add` runs one at a time: two at once were seen to lose to each other's locks. No hook runs, and
only a sparse plan changes the repository's configuration (`extensions.worktreeConfig`, by git itself).
"""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

from msgspec import Struct, field

from parallelai import processes
from parallelai.errors import UsageError
from parallelai.git.plumbing import failure, is_full
from parallelai.git.repository import Repository
from parallelai.processes import Completed
from parallelai.store import faults
from parallelai.store.files import write_whole
from parallelai.work import filters
from parallelai.work.scratch.gathering import listing
from parallelai.work.streams import inner, sparse
from parallelai.work.streams.aside import put_back
from parallelai.work.streams.left import Left, keep
from parallelai.work.streams.locks import clear_stale
from parallelai.work.streams.moved import refuse_moved
from parallelai.work.streams.now import find_place, paths
from parallelai.work.streams.places import CHANGED, QUIET, Place, entries, entry_of
from parallelai.work.streams.record import Stream
from parallelai.work.streams.repairing import Step, kind_of, look, steps
from parallelai.work.streams.unfinished import alone

ROOM_BYTES = 64 * 1024 * 1024
"""What has to stay free on the disk beside a worktree's files."""
PLENTY_BYTES = 16 * 1024 * 1024 * 1024
"""Where so much is free nobody counts what the files need."""


class Made(Struct):
    """What was done: `is_new`, and in words what was put right and what a person should know."""

    is_new: bool = False
    repaired: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


_SAID: dict[Step, str] = {
    "branch": "the branch was gone: it is where our last commit was",
    "clear": "a `.git` that led nowhere was removed",
    "add": "the folder was gone: it was made again from the branch",
    "add-again": "the folder was gone: it was made again from the branch",
    "adopt": "git had forgotten the worktree: it was taken as it lies",
    "link": "its `.git` did not lead to the repository: it was written anew",
    "unlock": "it was half made",
    "index": "its index was missing: it was made anew",
}


async def ensure(repository: Repository, stream: Stream) -> Made:
    """Make the worktree of a workstream, or what is missing of it. Only under the lock of worktrees.

    Raises `UsageError` for what only a person can put right, `GitError`, `StoreFullError`.
    """
    made = Made()
    if not stream.is_ready:
        await asyncio.to_thread(processes.sweep)  # git of a killed start may be at it still
    if await asyncio.to_thread(put_back, Path(stream.worktree)):
        made.repaired.append("it was half removed: it is back")
    await asyncio.to_thread(clear_stale, repository, stream)
    await asyncio.to_thread(refuse_moved, repository, stream)
    standing = await look(repository, stream)
    todo = steps(stream, standing)
    if todo and todo[0] in ("add", "add-new", "add-again", "clear"):
        await _check_room(repository, stream)
    for step in todo:
        try:
            await _do(step, repository, stream, made)
        except OSError as error:
            raise faults.translate(error, Path(stream.worktree)) from error
        if step in _SAID and (stream.is_ready or step not in ("add", "branch")):
            made.repaired.append(_SAID[step])
    made.is_new = bool(todo) and not stream.is_ready
    return made


async def _do(step: Step, repository: Repository, stream: Stream, made: Made) -> None:
    path = Path(stream.worktree)
    match step:
        case "branch":
            await _make_branch(repository, stream)
        case "clear":
            if kind_of(path) == "pointer":
                (path / ".git").unlink()
        case "add" | "add-new" | "add-again":
            await _add(step, repository, stream, made)
        case "adopt":
            await _adopt(repository, stream)
        case "link":
            place = find_place(repository, stream)
            await asyncio.to_thread(_point, place.entry.admin, path)
        case "unlock":
            (find_place(repository, stream).entry.admin / "locked").unlink(missing_ok=True)
        case "index":
            await _make_index(find_place(repository, stream), stream, made)
        case "files":
            await _fill(find_place(repository, stream), stream, made)


async def _make_branch(repository: Repository, stream: Stream) -> None:
    ref = f"refs/heads/{stream.branch}"
    if await repository.commit(stream.head) is None:
        raise UsageError(
            f"the branch `{stream.branch}` was deleted, and its last commit {stream.head[:10]} is gone",
            next=f"`parallelai work drop {stream.name}` keeps what is in the worktree",
        )
    if not await repository.move(ref, stream.head, None, "parallelai: made again"):
        raise UsageError(f"the branch `{stream.branch}` cannot be made", next="see what `git branch` says")


async def _add(step: Step, repository: Repository, stream: Stream, made: Made) -> None:
    path = Path(stream.worktree)
    await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True)
    words = (
        ["worktree", "add", "--quiet", "--no-track"] if step == "add-new" else ["worktree", "add", "--quiet"]
    )
    if step == "add-again":
        words += ["-f", "-f"]
        made.notes += await _saved(repository, stream)
    else:
        await asyncio.to_thread(_clear_halves, repository, path)
    if stream.sparse:
        words.append("--no-checkout")
    if step == "add-new":
        words += ["-b", stream.branch, "--", str(path), stream.base]
    else:
        await _refuse_elsewhere(repository, stream)
        words += ["--", str(path), stream.branch]
    quiet = (*QUIET, "-c", "checkout.workers=0")
    # The folder appears while git runs: what is above it has to be seen.
    done = await filters.as_user(
        repository, *quiet, *words, at=repository.root, top=path, readable=(str(path.parent),)
    )
    if done.exit != 0:
        raise _not_made(done, tuple(words), path)
    if stream.sparse:
        made.notes += await sparse.check_out(find_place(repository, stream), stream.sparse)


async def _saved(repository: Repository, stream: Stream) -> list[str]:
    """Keep what git's folder of a worktree has that is gone, which git would make anew; says what that was.

    Raises `UsageError` where that is commits of submodules.
    """
    entry = entry_of(repository, Path(stream.worktree))
    if entry is None:
        return []
    place, tip = Place(repository, entry), f"refs/heads/{stream.branch}"
    if (unsafe := await inner.unsafe(place, stream, tip)) is not None:
        raise UsageError(
            f"the worktree of `{stream.name}` is gone, and {unsafe.said}", next=f"`{unsafe.command}`"
        )
    notes = []
    for commit, said in await alone(place, tip):
        ref = await keep(repository, stream.run, stream.name, commit)
        notes.append(f"the worktree was gone; {said} is kept in git: `{Left(ref, commit).takes}` takes it")
    return notes


async def _refuse_elsewhere(repository: Repository, stream: Stream) -> None:
    """git checks a branch out once: not where the user has it, too."""
    others = [(entry.path, entry.branch) for entry in entries(repository)]
    if not repository.is_bare:
        others.append((repository.root, await repository.branch()))
    for path, branch in others:
        if branch == stream.branch and path != Path(stream.worktree) and path.exists():
            raise UsageError(
                f"the branch `{branch}` of `{stream.name}` is checked out in `{path}`",
                next=f"check another out there: `git -C {path} switch --detach`",
            )


def _clear_halves(repository: Repository, path: Path) -> None:
    """Remove what git left of a worktree of this name that it was killed at before it knew the folder."""
    folder = repository.common / "worktrees"
    if not folder.is_dir():
        return
    for admin in folder.iterdir():
        is_named = admin.name.rstrip("0123456789") == path.name.rstrip("0123456789")
        if is_named and not (admin / "gitdir").exists() and (admin / "locked").exists():
            shutil.rmtree(admin, ignore_errors=True)


async def _adopt(repository: Repository, stream: Stream) -> None:
    """Let git know a folder with files as a worktree again: one is made beside it, and led to the folder."""
    path = Path(stream.worktree)
    beside = path.parent / f".{path.name}.adopting"
    entry = entry_of(repository, beside)
    if entry is None or not (entry.admin / "HEAD").exists() or entry.branch != stream.branch:
        words = ("worktree", "add", "--quiet", "-f", "-f", "--no-checkout", "--", str(beside), stream.branch)
        if kind_of(beside) == "pointer":
            (beside / ".git").unlink()
        await _refuse_elsewhere(repository, stream)
        done = await repository.as_user(*QUIET, *words)
        if done.exit != 0:
            raise _not_made(done, words, path)
        entry = entry_of(repository, beside)
    if entry is None:
        raise UsageError(
            f"`{path}` cannot be made a worktree again", next="see what `git worktree list` says"
        )
    await asyncio.to_thread(_point, entry.admin, path)
    (entry.admin / "locked").unlink(missing_ok=True)
    if kind_of(beside) == "pointer":
        (beside / ".git").unlink()
    if kind_of(beside) == "empty":
        beside.rmdir()


def _point(admin: Path, path: Path) -> None:
    """Let git's folder of a worktree and the worktree lead to each other."""
    pointer = path / ".git"
    write_whole(admin / "gitdir", os.fsencode(pointer) + b"\n")
    write_whole(pointer, b"gitdir: " + os.fsencode(admin) + b"\n")


async def _make_index(place: Place, stream: Stream, made: Made) -> None:
    """Make the index what the branch is; the files stay, and what differs in them is seen as changed."""
    await asyncio.to_thread(place.index.unlink, missing_ok=True)
    await place.must("read-tree", "HEAD")
    if stream.sparse and not stream.is_ready:
        made.notes += await sparse.check_out(place, stream.sparse)


async def _fill(place: Place, stream: Stream, made: Made) -> None:
    """Write the files that a killed checkout did not, and those that it did not write to their end."""
    await place.inside("update-index", "-q", "--refresh")
    differing = paths(await place.must(*CHANGED))
    missing, other = await asyncio.to_thread(_missing, place.path, differing)
    for name in other:
        if await _is_half(place, name):
            missing.append(name)
        else:
            made.notes.append(f"`{name}` was changed before the worktree was made to its end, and stays so")
    if missing:
        await place.must("checkout-index", "-f", "-u", "-z", "--stdin", stdin=listing(missing))
        made.repaired.append("its files were not all there")


def _missing(root: Path, names: list[str]) -> tuple[list[str], list[str]]:
    missing: list[str] = []
    other: list[str] = []
    for name in names:
        (other if os.path.lexists(f"{root}/{name}") else missing).append(name)
    return missing, other


async def _is_half(place: Place, name: str) -> bool:
    """Whether a file is the beginning of what would be checked out there: nobody's work, then."""
    path = place.path / name
    if path.is_symlink() or not path.is_file():
        return False
    here = await asyncio.to_thread(path.read_bytes)
    done = await place.inside("cat-file", "--filters", f":{name}")
    return done.exit == 0 and len(here) < len(done.stdout) and done.stdout.startswith(here)


def _not_made(done: Completed, words: tuple[str, ...], path: Path) -> Exception:
    there = path if path.exists() else path.parent
    if faults.has_no_room(there) or is_full(done):
        return faults.full(path)
    return failure(words, done)


async def _check_room(repository: Repository, stream: Stream) -> None:
    """See that the files fit on the disk. Raises `StoreFullError`."""
    folder = Path(stream.worktree)
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free >= PLENTY_BYTES:
        return
    needed = ROOM_BYTES if stream.sparse else ROOM_BYTES + await _size(repository, stream.base)
    if free < needed:
        error = faults.full(Path(stream.worktree))
        error.said += f": {needed // 1_000_000} MB are needed, {free // 1_000_000} MB are free"
        raise error


async def _size(repository: Repository, commit: str) -> int:
    """What the files of a commit take, in bytes; 0 where git cannot say without fetching."""
    done = await repository.git.attempt("ls-tree", "-r", "-z", "-l", "--full-tree", commit)
    sizes = (row.split(b"\t", 1)[0].rsplit(b" ", 1)[-1] for row in done.stdout.split(b"\0") if row)
    return sum(int(size) for size in sizes if size.isdigit()) if done.exit == 0 else 0
