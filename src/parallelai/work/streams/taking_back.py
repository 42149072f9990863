"""Taking back what lies in a worktree and is not committed: what a check left, or an attempt that was cut off."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping

from msgspec import Struct

from parallelai.git.plumbing import GitError, in_parts
from parallelai.git.repository import Repository
from parallelai.work.scratch import folders
from parallelai.work.scratch.gathering import listing
from parallelai.work.streams.carrying import trees
from parallelai.work.streams.indexes import clear_index
from parallelai.work.streams.left import keep
from parallelai.work.streams.now import Now, find_place, measure
from parallelai.work.streams.record import Stream

MOST_KEPT = 1000
MOST_KEPT_BYTES = 1_000_000
"""What people edit is smaller; what a build leaves is not worth keeping."""
MOST_PATCH_BYTES = 64 * 1024 * 1024
"""The most that a patch is made of: it is held in memory, and git applies none of more than 1 GiB."""
_FILE = ("100644", "100755", "120000")
_FSCK = "`git fsck` says what else is missing; get it from another clone"


class TakenBack(Struct, frozen=True):
    """What was taken back: paths below the worktree, those of them that are kept, and the patch that holds these.

    What is too much for a patch is kept as a commit instead, under the name `ref`.
    """

    paths: tuple[str, ...]
    kept: tuple[str, ...]
    patch: bytes
    ref: str | None = None


async def take_back(
    repository: Repository, stream: Stream, keep: Callable[[TakenBack], None], *, is_whole: bool = False
) -> None:
    """Put a worktree's files back to what its branch has. Raises `GitError`.

    A person may have edited there meanwhile: before a file is touched, `keep` is told what is kept of what differs, if
    anything does. With `is_whole` that is all, of whatever size, else what is small enough.
    """
    place = find_place(repository, stream)
    if await asyncio.to_thread(clear_index, place.index):
        await place.must("read-tree", stream.head)
    now = await measure(repository, stream)
    if not now.changed:
        return
    taken = await _taken(repository, stream, now, is_whole=is_whole)
    await asyncio.to_thread(keep, taken)
    listed = await repository.git.run("ls-tree", "-r", "-z", "--name-only", now.tip)
    tracked = {os.fsdecode(path) for path in listed.split(b"\0") if path}
    for path in now.changed:
        await asyncio.to_thread(folders.clear_away, place.path, path)
    known = [path for path in now.changed if path in tracked]
    if known:
        await place.must("checkout-index", "-f", "-u", "-z", "--stdin", stdin=listing(known))


async def _taken(repository: Repository, stream: Stream, now: Now, *, is_whole: bool) -> TakenBack:
    sizes = await _sizes(repository, now)
    if is_whole and sum(sizes.values()) > MOST_PATCH_BYTES:
        return TakenBack(
            now.changed, now.changed, b"", await keep(repository, stream.run, stream.name, now.commit)
        )
    kept = now.changed if is_whole else small_enough({path: sizes.get(path, 0) for path in now.changed})
    sides = ("diff-tree", "-r", "-p", "--binary", "--full-index", "--no-renames", now.tip, now.commit)
    only: list[list[str]] = [[]] if is_whole else [["--", *some] for some in in_parts(kept)]
    patch = b"".join([await repository.git.run(*sides, *some) for some in only])
    return TakenBack(now.changed, kept, patch)


def small_enough(sizes: Mapping[str, int]) -> tuple[str, ...]:
    """Choose what of a command's leavings is kept, by path and bytes: a bounded number, small each and together."""
    kept, left = list[str](), MOST_PATCH_BYTES
    for path, size in sizes.items():
        if size <= min(MOST_KEPT_BYTES, left) and len(kept) < MOST_KEPT:
            kept.append(path)
            left -= size
    return tuple(kept)


async def _sizes(repository: Repository, now: Now) -> dict[str, int]:
    """How many bytes a patch of each changed path is about: what was there before, and what is there now.

    Raises `GitError`, also where an object of these is missing.
    """
    blobs = {
        each.path: [side[1] for side in (each.before, each.after) if side is not None and side[0] in _FILE]
        for each in await trees(repository, now.tip, now.commit)
    }
    names = {blob for each in blobs.values() for blob in each}
    stdin = "".join(f"{name}\n" for name in names).encode()
    listed = await repository.git.run("cat-file", "--batch-check=%(objectname) %(objectsize)", stdin=stdin)
    bytes_of: dict[str, int] = {}
    for name, size in (row.split() for row in listed.decode().splitlines()):
        if not size.isdecimal():  # "missing", of a repository that is damaged
            raise GitError(f"git has no object `{name}`, of a file that changed in a worktree", next=_FSCK)
        bytes_of[name] = int(size)
    return {path: sum(bytes_of[blob] for blob in each) for path, each in blobs.items()}
