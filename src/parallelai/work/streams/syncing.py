"""Brings the target into a worktree between turns; what is not committed there stays so.

What will be is decided in the object store first; where anything conflicts nothing is touched. Then it is
written down (the journal), the branch is moved by compare-and-swap, the files are updated, and the index is put
in place. Killed before the branch moved, nothing has happened; after it, `recover` does the rest: a file that
somebody edited meanwhile stays as they left it.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from msgspec import Struct

from parallelai import processes
from parallelai.errors import BusyError, StoreCorruptError
from parallelai.git.plumbing import failure
from parallelai.git.repository import Repository
from parallelai.processes import Completed
from parallelai.processes.temporary import temporary_folder
from parallelai.store import faults
from parallelai.store.files import sync_folder, write_whole
from parallelai.store.lock import FileLock
from parallelai.work.landing.history import to_merge
from parallelai.work.scratch.gathering import listing
from parallelai.work.streams.carrying import Difference, How, Meets, Refused, carry, trees
from parallelai.work.streams.indexes import put_index
from parallelai.work.streams.locks import clear_stale
from parallelai.work.streams.now import copy_index, find_place, measure_with
from parallelai.work.streams.places import Place
from parallelai.work.streams.record import Stream
from parallelai.work.streams.registry import Streams

PATIENCE_SECONDS = 300.0
_STEP_SECONDS = 0.02
_UNFINISHED = ("MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "rebase-merge", "rebase-apply", "BISECT_LOG")


class Synced(Struct, frozen=True):
    """Whether the target is in the worktree now. If not, `why`, and the files that stand against it.

    `stream` is the workstream as it is now; `has_moved`: the branch is not where it was; `meets`: what of the
    workstream git could not merge with the target.
    """

    ok: bool
    stream: Stream
    has_moved: bool = False
    why: str = ""
    files: tuple[str, ...] = ()
    meets: Meets | None = None


@dataclass(frozen=True, slots=True)
class _Journal:
    """A sync that was begun: the branch from `tip` to `new`, the files from `before` to `after` (commits)."""

    tip: str
    new: str
    before: str
    after: str
    onto: str


class _Wanted(Struct, frozen=True):
    """The branch's `tip`, the commit to bring in and how, and the commit of the target that it holds."""

    tip: str
    onto: str
    how: How
    base: str


async def sync(
    repository: Repository, streams: Streams, stream: Stream, onto: str, how: How, base: str | None = None
) -> Synced:
    """Bring a commit of the target into a workstream's worktree and branch; only while nobody works there.

    `base` is the commit of the target where `onto` is a merge with it.

    Conflicts, an edit meanwhile, or an unfinished merge of somebody's leave all as it was, and are told. What
    was staged is not staged afterwards.

    Raises:
        UsageError: there is no worktree.
        StoreFullError: the disk is full; `recover` goes on once there is room.
        GitError: git refused.
    """
    async with _alone(streams, stream):
        await _recover(repository, streams, stream)
        stream = streams.find(stream.name)
        await asyncio.to_thread(clear_stale, repository, stream)
        place = find_place(repository, stream)
        reason = _busy(place, stream)
        tip = await repository.commit(f"refs/heads/{stream.branch}")
        if reason is not None or tip is None:
            return Synced(False, stream, why=reason or f"the branch `{stream.branch}` is gone")
        with temporary_folder("sync") as folder:
            wanted = _Wanted(tip, onto, how, base or onto)
            return await _sync(streams, place, stream, wanted, folder / "index")


async def _sync(streams: Streams, place: Place, stream: Stream, wanted: _Wanted, index: Path) -> Synced:
    tip, onto = wanted.tip, wanted.onto
    repository = place.repository
    await copy_index(place, tip, index)
    now = await measure_with(place, stream, tip, index)
    message = f"Merge `{stream.target}` into `{stream.branch}`\n"
    own = tip if wanted.base != onto else await to_merge(repository, stream, tip, onto)
    carried = await carry(repository, tip, now.commit, onto, wanted.how, message, own)
    if isinstance(carried, Refused):
        return Synced(False, stream, why=carried.why, files=carried.files, meets=carried.meets)
    journal = _Journal(tip, carried.tip, now.commit, carried.now, wanted.base)
    if carried.tip == tip:
        if await repository.ancestor(stream.base, wanted.base):
            stream = streams.update(stream.name, lambda known: dataclasses.replace(known, base=wanted.base))
        return Synced(True, stream)
    differences = await trees(repository, journal.before, journal.after)
    in_the_way = await asyncio.to_thread(_in_the_way, place.path, differences)
    if in_the_way:
        why = "the target has files that lie there and are not tracked"
        return Synced(False, stream, why=why, files=tuple(in_the_way))
    return await _carry_out(streams, place, stream, journal, differences, index)


def _in_the_way(root: Path, differences: list[Difference]) -> list[str]:
    """New files of the target in whose place something lies: also what is ignored is not written over."""
    gone = {each.path for each in differences if each.after is None}
    found = []
    for each in differences:
        if each.before is None and os.path.lexists(root / each.path):
            is_swap = any(str(up) in gone for up in PurePosixPath(each.path).parents) or any(
                name.startswith(f"{each.path}/") for name in gone
            )
            if not is_swap:
                found.append(each.path)
    return found


async def _carry_out(
    streams: Streams,
    place: Place,
    stream: Stream,
    journal: _Journal,
    differences: list[Difference],
    index: Path,
) -> Synced:
    repository, ref = place.repository, f"refs/heads/{stream.branch}"
    path = _journal_path(streams, stream)
    write_whole(path, json.dumps(dataclasses.asdict(journal)).encode())
    if not await repository.move(ref, journal.new, journal.tip, "parallelai: synced"):
        _forget(path)
        return Synced(False, stream, why="the branch was moved meanwhile")
    done = await _git(place, stream, "read-tree", "-m", "-u", journal.before, journal.after, index=index)
    if done.exit != 0:
        return await _taken_back(streams, place, stream, journal, differences, done)
    await _put_index(place, stream, journal.new, index)
    now = _noted(streams, stream, journal)
    _forget(path)
    return Synced(True, now, has_moved=True)


async def _taken_back(
    streams: Streams,
    place: Place,
    stream: Stream,
    journal: _Journal,
    differences: list[Difference],
    done: Completed,
) -> Synced:
    """git did not update the files: it looks first and writes then, so mostly none was touched."""
    standing = await _standing(place, stream, journal, differences)
    if any(state in ("done", "half") for state in standing.values()):
        if faults.has_no_room(place.path):
            raise faults.full(place.path)
        raise failure(("read-tree",), done)
    ref = f"refs/heads/{stream.branch}"
    if not await place.repository.move(ref, journal.tip, journal.new, "parallelai: not synced"):
        raise failure(("read-tree",), done)
    _forget(_journal_path(streams, stream))
    files = tuple(path for path, state in standing.items() if state == "edited")
    return Synced(False, stream, why="it was edited meanwhile", files=files)


# -- after a crash


async def recover(repository: Repository, streams: Streams, stream: Stream) -> list[str]:
    """Finish a sync that was killed; gives in words what was done. Raises as `sync` does."""
    if not _journal_path(streams, stream).exists():
        return []
    async with _alone(streams, stream):
        return await _recover(repository, streams, stream)


async def _recover(repository: Repository, streams: Streams, stream: Stream) -> list[str]:
    path = _journal_path(streams, stream)
    journal = _read(path)
    if journal is None:
        return []
    await asyncio.to_thread(processes.sweep)  # git of the killed process may be at it still
    tip = await repository.commit(f"refs/heads/{stream.branch}")
    if tip == journal.tip:  # the branch is moved first: nothing had been done
        _forget(path)
        return []
    if tip != journal.new:
        _forget(path)
        return ["a sync was killed, and the branch moved since: look at what `git diff` says there"]
    place = find_place(repository, stream)
    await asyncio.to_thread(clear_stale, repository, stream)
    differences = await trees(repository, journal.before, journal.after)
    standing = await _standing(place, stream, journal, differences)
    with temporary_folder("sync") as folder:
        index = folder / "index"
        await copy_index(place, journal.new, index)
        await _must(place, stream, "read-tree", "-i", "-m", journal.after, index=index)
        await _finish(place, stream, differences, standing, index)
        await _put_index(place, stream, journal.new, index)
    if stream.is_sparse:  # what was written in a crash's wake may lie beyond its patterns
        await place.inside("sparse-checkout", "reapply")
    _noted(streams, stream, journal)
    _forget(path)
    edited = [name for name, state in standing.items() if state == "edited"]
    said = ["a sync that was killed was finished"]
    return said + [f"`{name}` was edited meanwhile, and stays so" for name in edited]


async def _standing(
    place: Place, stream: Stream, journal: _Journal, differences: list[Difference]
) -> dict[str, str]:
    """How far each file is: `before`, `done`, `half` written, or `edited` by somebody since."""
    with temporary_folder("sync") as folder:
        index = folder / "index"
        await copy_index(place, journal.tip, index)
        now = await measure_with(place, stream, journal.new, index)
    here = {each.path: each.after for each in await trees(place.repository, journal.after, now.commit)}
    found: dict[str, str] = {}
    for each in differences:
        if each.path not in here:
            found[each.path] = "done"
        elif here[each.path] == each.before:
            found[each.path] = "before"
        else:
            is_half = await _is_half(place, each, here[each.path], journal)
            found[each.path] = "half" if is_half else "edited"
    return found


async def _is_half(
    place: Place, difference: Difference, here: tuple[str, str] | None, journal: _Journal
) -> bool:
    """Whether git was killed between removing a file and writing it to its end."""
    if here is None or difference.after is None:
        return here is None
    path = place.path / difference.path
    if path.is_symlink() or not path.is_file():
        return False
    data = await asyncio.to_thread(path.read_bytes)
    done = await place.inside("cat-file", "--filters", f"{journal.after}:{difference.path}")
    return done.exit == 0 and len(data) < len(done.stdout) and done.stdout.startswith(data)


async def _finish(
    place: Place, stream: Stream, differences: list[Difference], standing: dict[str, str], index: Path
) -> None:
    """Write and remove the files that are not yet as they are to be."""
    open_ = [each for each in differences if standing[each.path] in ("before", "half")]
    await asyncio.to_thread(_remove, place.path, [each.path for each in open_ if each.after is None])
    wanted = {
        each.path for each in open_ if each.after is not None and not _is_folder(place.path / each.path)
    }
    if stream.is_sparse:
        listed = await _must(place, stream, "ls-files", "-t", "-z", index=index)
        wanted -= {os.fsdecode(row[2:]) for row in listed.split(b"\0") if row.startswith(b"S ")}
    if wanted:
        words = ("checkout-index", "-f", "-u", "-z", "--stdin")
        await _must(place, stream, *words, index=index, stdin=listing(wanted))


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _remove(root: Path, names: list[str]) -> None:
    """Remove files, and folders that are empty then; nothing that lies behind a link."""
    for name in names:
        parents = [root / up for up in PurePosixPath(name).parents][:-1]
        if any(up.is_symlink() for up in parents):
            continue
        with contextlib.suppress(OSError):
            (root / name).unlink()
            for up in parents:
                up.rmdir()


# -- its parts


async def _put_index(place: Place, stream: Stream, commit: str, index: Path) -> None:
    """Make the index what the branch is, and put it in the worktree's place; as git would, under its lock."""
    await _must(place, stream, "read-tree", "-i", "-m", commit, index=index)
    await _git(place, stream, "update-index", "-q", "--refresh", index=index)
    await asyncio.to_thread(_install, index, place.index)


def _install(index: Path, target: Path) -> None:
    with faults.told(target):
        put_index(index, target, is_durable=True)
        sync_folder(target.parent)


async def _git(place: Place, stream: Stream, *arguments: str, index: Path, stdin: bytes = b"") -> Completed:
    """Call git with an index of ours. A sparse worktree's patterns are its own: there git is called inside."""
    if stream.is_sparse:
        return await place.inside(*arguments, index=index, stdin=stdin)
    return await place.outside(*arguments, index=index, stdin=stdin)


async def _must(place: Place, stream: Stream, *arguments: str, index: Path, stdin: bytes = b"") -> bytes:
    done = await _git(place, stream, *arguments, index=index, stdin=stdin)
    if done.exit != 0 or done.is_truncated:
        if faults.has_no_room(place.path):
            raise faults.full(place.path)
        raise failure(arguments, done)
    return done.stdout


def _busy(place: Place, stream: Stream) -> str | None:
    """Why the worktree cannot be synced now."""
    if place.entry.branch != stream.branch:
        return f"`{place.path}` is not on its branch `{stream.branch}`"
    left = [name for name in _UNFINISHED if (place.entry.admin / name).exists()]
    return f"a merge or rebase is not finished in `{place.path}`" if left else None


def _noted(streams: Streams, stream: Stream, journal: _Journal) -> Stream:
    def change(known: Stream) -> Stream:
        # what it changes is what a person saw: only what has landed came in, by git alone
        approved = journal.new if known.approved_head == journal.tip else known.approved_head
        return dataclasses.replace(known, base=journal.onto, head=journal.new, approved_head=approved)

    return streams.update(stream.name, change)


def _journal_path(streams: Streams, stream: Stream) -> Path:
    return streams.state / "work" / "syncs" / f"{stream.name}.json"


def _forget(path: Path) -> None:
    path.unlink(missing_ok=True)
    sync_folder(path.parent)


def _read(path: Path) -> _Journal | None:
    try:
        return _Journal(**json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise StoreCorruptError(
            f"`{path}` is damaged: {error}", next="look at the worktree, and remove that file"
        ) from None


@asynccontextmanager
async def _alone(streams: Streams, stream: Stream) -> AsyncIterator[None]:
    """Be the only one, of all processes, that syncs this workstream."""
    folder = _journal_path(streams, stream).parent
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = FileLock(folder / f"{stream.name}.lock")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not lock.acquire():
        if time.monotonic() >= deadline:
            raise BusyError(f"another process syncs `{stream.name}`, and does not end", next="try again")
        await asyncio.sleep(_STEP_SECONDS)
    try:
        yield
    finally:
        lock.release()
