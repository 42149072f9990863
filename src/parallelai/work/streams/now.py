"""What is in a worktree now, committed or not, as a commit; only the object store is written.

With a copy of the worktree's index: git takes what has not been touched since as it is, so that little is read.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from msgspec import Struct, field

from parallelai.errors import UsageError
from parallelai.git.plumbing import failure
from parallelai.git.repository import Repository
from parallelai.processes.temporary import temporary_folder
from parallelai.work.scratch.gathering import listing
from parallelai.work.scratch.measuring import clear_pipes
from parallelai.work.streams.indexes import copy_plain
from parallelai.work.streams.moved import refuse_moved
from parallelai.work.streams.places import Entry, Place, entry_of
from parallelai.work.streams.record import Stream

SECONDS = 60.0
"""How long git may look at a folder before a pipe in the place of a file that it reads is looked for."""


@dataclass(frozen=True, slots=True)
class Now:
    """What is in a worktree.

    Attributes:
        commit: holds all of it; the branch's own tip where nothing differs from that.
        tip: where the branch is.
        changed: paths that differ from the tip, new ones too, sorted.
        left_out: paths that git cannot record: repositories inside, pipes, what may not be read.
        new: those of `changed` that git does not know there: nobody has added them.
        hidden: those of `changed` of which git there was told not to look at them.
    """

    commit: str
    tip: str
    changed: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()


async def current(repository: Repository, stream: Stream) -> str:
    """Give a commit of what is in the worktree now: tracked and new files, but none that is ignored or brought.

    Its parent is the branch's tip; the same content gives the same commit. Neither the worktree nor its index
    is touched. Raises `UsageError` where there is no worktree, `GitError`.
    """
    return (await measure(repository, stream)).commit


async def measure(repository: Repository, stream: Stream, at: Path | None = None) -> Now:
    """Say what is in the worktree, as `current`, and what differs. `at` is where its folder is, if elsewhere."""
    place = find_place(repository, stream)
    if at is not None:
        place = Place(repository, replace(place.entry, path=at))
    return await measure_in(place, stream)


async def measure_in(place: Place, stream: Stream, *, is_whole: bool = True) -> Now:
    """Say what is in a worktree that was found, as `measure`.

    Where it is not a workstream's, and not `is_whole`, git does not look at what its owner told it not to look at.
    """
    repository = place.repository
    tip = await repository.commit(f"refs/heads/{stream.branch}") or stream.head
    with temporary_folder("index") as folder:
        index = folder / "index"
        await copy_index(place, tip, index)
        return await measure_with(place, stream, tip, index, is_whole=is_whole)


def find_place(repository: Repository, stream: Stream) -> Place:
    """Find the worktree of a workstream. Raises `UsageError` where its folder is gone, or git forgot it."""
    path = Path(stream.worktree)
    entry: Entry | None = entry_of(repository, path)
    if entry is None:
        refuse_moved(repository, stream)
        raise UsageError(
            f"there is no worktree of `{stream.name}` at `{path}`",
            next=f"`parallelai work start {shlex.quote(stream.plan)} {shlex.quote(stream.name)}` makes it again",
        )
    return Place(repository, replace(entry, path=path))


async def copy_index(place: Place, tip: str, index: Path) -> None:
    """Copy the worktree's index with its time, by which git knows what may have been changed since it was written.

    Where there is none, or something else in its place, it is made from the branch's tip.
    """
    if not await asyncio.to_thread(copy_plain, place.index, index):
        done = await place.outside("read-tree", tip, index=index)
        if done.exit != 0:
            raise failure(("read-tree",), done)


async def measure_with(place: Place, stream: Stream, tip: str, index: Path, *, is_whole: bool = True) -> Now:
    """Measure with an index of ours, which then holds what is in the worktree."""
    differing, new, hidden = await differences(place, stream, tip, index, is_whole=is_whole)
    held = await _held_in_index(place, stream, differing, index)
    differing = [name for name in differing if name not in held]
    brought = frozenset(stream.brought)
    new = [name for name in new if not is_below(name, brought)]
    found = await asyncio.to_thread(_sorted, place.path, [*differing, *new])
    await _settle_folders(place, stream, tip, found, index)
    left_out = await _take(place, stream, found, index)
    if not found.lying and not found.gone and not found.inner and not held:
        return Now(tip, tip, (), left_out)
    tree = os.fsdecode(await _must(place, "write-tree", index=index)).strip()
    git = place.repository.git
    if tree == await place.repository.tree(tip):
        return Now(tip, tip, (), left_out)
    git = await git.dated(tip)
    commit = await git.line("commit-tree", tree, "-p", tip, "-m", f"What is in the worktree of {stream.name}")
    listed = await git.run("diff-tree", "-r", "-z", "--name-only", "--no-renames", tip, commit)
    changed = tuple(sorted(paths(listed)))
    others, marked = frozenset(new), frozenset(hidden)
    unknown, unseen = (tuple(path for path in changed if path in those) for those in (others, marked))
    return Now(commit, tip, changed, left_out, unknown, unseen)


async def differences(
    place: Place, stream: Stream, tip: str, index: Path, *, is_whole: bool = True
) -> tuple[list[str], list[str], list[str]]:
    """The tracked paths that may differ from the tip, the new ones, and those that git was told not to look at.

    `is_whole` as for `measure_in`.
    """
    tracked = ("diff-index", "-z", "--name-only", "--no-renames", "--ignore-submodules=dirty", tip)
    listed = ("ls-files", "-v", "-z", "--cached", "--others", "--exclude-standard")
    async with asyncio.TaskGroup() as group:
        one = group.create_task(_look(place, *tracked, index=index, is_sparse=stream.is_sparse))
        two = group.create_task(_look(place, *listed, index=index, is_sparse=stream.is_sparse))
    differing, rows = one.result(), paths(two.result())
    hidden = await _unhide(place, stream, rows, index) if is_whole else []
    if hidden:
        differing = await _look(place, *tracked, index=index, is_sparse=stream.is_sparse)
    return paths(differing), [row[2:] for row in rows if row.startswith("? ")], hidden


async def _unhide(place: Place, stream: Stream, rows: Iterable[str], index: Path) -> list[str]:
    """Let git look at the files that it was told not to look at, by its marks of them; gives these.

    What a sparse worktree does not have is no change of it.
    """
    skipped = [row[2:] for row in rows if row[0] in "Ss"]
    hidden = {
        "--no-assume-unchanged": [row[2:] for row in rows if row[0].islower()],
        "--no-skip-worktree": [name for name in skipped if os.path.lexists(place.path / name)],
    }
    for option, names in hidden.items():
        if names:
            words = ("update-index", "-z", option, "--stdin")
            await _must(place, *words, index=index, stdin=listing(names), is_sparse=stream.is_sparse)
    return [name for names in hidden.values() for name in names]


async def _look(place: Place, *arguments: str, index: Path, is_sparse: bool) -> bytes:
    """Ask git, which waits forever at a pipe by the name of a file that it reads in every folder."""
    done = await place.outside(*arguments, index=index, seconds=SECONDS, is_sparse=is_sparse)
    if done.ended_by is not None:
        await asyncio.to_thread(clear_pipes, place.path)
    elif done.exit == 0 and not done.is_truncated:
        return done.stdout
    return await _must(place, *arguments, index=index, is_sparse=is_sparse)


async def _must(
    place: Place, *arguments: str, index: Path, stdin: bytes = b"", is_sparse: bool = False
) -> bytes:
    done = await place.outside(*arguments, index=index, stdin=stdin, is_sparse=is_sparse)
    if done.exit != 0 or done.is_truncated:
        raise failure(arguments, done)
    return done.stdout


async def _held_in_index(place: Place, stream: Stream, names: Sequence[str], index: Path) -> frozenset[str]:
    """Those of some paths that git took out of the files for a sparse checkout: only the index has what was added."""
    absent = frozenset(name for name in names if not os.path.lexists(place.path / name))
    if not absent:
        return absent
    listed = await _must(place, "ls-files", "-t", "-z", index=index, is_sparse=stream.is_sparse)
    return absent.intersection(row[2:] for row in paths(listed) if row.startswith("S "))


class _Sorted(Struct):
    """Paths that differ: files and links, what is gone, folders, repositories inside, what git cannot record."""

    lying: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    inner: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def _sorted(root: Path, names: Iterable[str]) -> _Sorted:
    found = _Sorted()
    links: dict[str, bool] = {"": False}
    for name in names:
        kind = "left_out" if name.endswith("/") else _kind(root, name, links)
        getattr(found, kind).append(name)
    return found


def _kind(root: Path, name: str, links: dict[str, bool]) -> str:
    if _is_behind_link(root, name.rpartition("/")[0], links):
        return "gone"
    path = f"{root}/{name}"
    try:
        mode = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "gone"
    except OSError:  # in a folder that was made unreadable
        return "left_out"
    if stat.S_ISDIR(mode):
        return "inner" if os.path.lexists(f"{path}/.git") else "folders"
    is_good = stat.S_ISLNK(mode) or (stat.S_ISREG(mode) and os.access(path, os.R_OK))
    return "lying" if is_good else "left_out"


def _is_behind_link(root: Path, folder: str, links: dict[str, bool]) -> bool:
    """Whether a folder, or one on the way to it, is a link: to git nothing lies behind one."""
    if folder not in links:
        is_link = os.path.islink(f"{root}/{folder}")  # noqa: PTH114 -- asked for each path
        links[folder] = is_link or _is_behind_link(root, folder.rpartition("/")[0], links)
    return links[folder]


async def _settle_folders(place: Place, stream: Stream, tip: str, found: _Sorted, index: Path) -> None:
    """Of a submodule that lies there as plain files, what the index alone says does not count; a file is gone."""
    if not found.folders:
        return
    listed = await place.repository.git.run("ls-tree", "-z", tip, "--", *found.folders)
    modules = [row for row in listed.split(b"\0") if row.startswith(b"160000 ")]
    if modules:
        stdin = b"".join(row + b"\0" for row in modules)
        words = ("update-index", "-z", "--index-info")
        await _must(place, *words, index=index, stdin=stdin, is_sparse=stream.is_sparse)
    kept = {os.fsdecode(row.split(b"\t", 1)[1]) for row in modules}
    found.gone += [name for name in found.folders if name not in kept]


async def _take(place: Place, stream: Stream, found: _Sorted, index: Path) -> tuple[str, ...]:
    """Take what differs into the index; gives what could not be taken."""
    add = ("update-index", "-z", "--add", "--remove", "--replace", "--stdin")
    if found.gone:
        words = ("update-index", "-z", "--force-remove", "--stdin")
        await _must(place, *words, index=index, stdin=listing(found.gone), is_sparse=stream.is_sparse)
    if found.lying:
        await _must(place, *add, index=index, stdin=listing(found.lying), is_sparse=stream.is_sparse)
    left_out = list(found.left_out)
    for name in found.inner:  # a submodule; or a repository in the place of a file, maybe without a commit
        if (await place.outside(*add, index=index, stdin=listing([name]))).exit != 0:
            left_out.append(name)
    return tuple(sorted(left_out))


def paths(listed: bytes) -> list[str]:
    """The names of a list that ends each with a zero byte."""
    return [os.fsdecode(name) for name in listed.split(b"\0") if name]


def is_below(name: str, tops: frozenset[str]) -> bool:
    """Whether a path is one of `tops`, or lies below one."""
    clean = name.rstrip("/")
    return bool(tops) and (clean in tops or any(str(up) in tops for up in PurePosixPath(clean).parents))
