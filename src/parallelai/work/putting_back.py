"""What was kept out of a worktree is put back where a person gave leave for it, as long as it fits there."""

from __future__ import annotations

import shlex
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from msgspec import Struct

from parallelai.git.repository import Repository, open_repository
from parallelai.processes.temporary import temporary_folder
from parallelai.work.streams.now import find_place
from parallelai.work.streams.record import KeptOut, Stream
from parallelai.work.streams.registry import Streams


class PutBack(Struct, frozen=True):
    """The patch, from the root, that holds what was kept out of some files, and whether it is in the worktree now."""

    patch: str
    is_done: bool


def patch_of(kept_out: Collection[KeptOut], given: Collection[str]) -> tuple[str, bool] | None:
    """Give the last patch that touches one of `given`, and whether it touches no other file. Pure."""
    touching = [each.patch for each in kept_out if each.patch and not set(each.paths).isdisjoint(given)]
    if not touching:
        return None
    patch = touching[-1]
    paths = {path for each in kept_out if each.patch == patch for path in each.paths}
    return patch, paths <= set(given)


async def put_back(repository: Repository, stream: Stream, given: Collection[str]) -> PutBack | None:
    """Apply what was kept out of files that may be changed now, all of it or nothing; None where nothing was.

    A patch that is of other files too is left to the person. Only while nobody works in the worktree.
    Raises `UsageError` where there is no worktree.
    """
    found = patch_of(stream.kept_out, given)
    if found is None:
        return None
    patch, is_whole = found
    return PutBack(patch, is_whole and await _applied(repository, stream, repository.root / patch))


async def put_back_left(root: Path, streams: Streams, before: Stream, wanted: Collection[str]) -> list[str]:
    """Put back what was kept out of files that a workstream got leave for since `before`; gives what to say of it."""
    given = {path for path in wanted if path not in before.leases}
    if not given or not Path(before.worktree).is_dir():
        return []
    repository = await open_repository(root)
    back = await put_back(repository, before, given)
    if back is None:
        return []
    if back.is_done:  # it is not committed: what was ready to land is so no more
        streams.update(before.name, lambda it: replace(it, state="open", in_attempt=False))
        said = f"what was kept out of it is in the worktree again, from `{back.patch}`"
    else:
        said = f"what was kept out of it is not in the worktree: {by_hand(repository.root, back.patch)}"
    return [said, f"then: `parallelai work done {before.name}`"]


def by_hand(root: Path, patch: str) -> str:
    """Say how a person puts a patch of ours into a worktree."""
    return f"`git apply {shlex.quote(str(root / patch))}` there puts it back, as far as it fits"


async def _applied(repository: Repository, stream: Stream, patch: Path) -> bool:
    place = find_place(repository, stream)
    with temporary_folder("index") as folder:
        # git refuses to write through links, and outside of the worktree
        words = ("apply", "--whitespace=nowarn", str(patch))
        done = await place.outside(*words, index=folder / "index")
    return done.exit == 0
