"""What git took out of a sparse worktree's files after it was added or committed there (`git mv`, `sparse-checkout`).

It is in no file, and git says of it that it need not be. It is laid out, so that it is judged as all else is.
"""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from parallelai.git.plumbing import Git, objects_of
from parallelai.work.guard.place import Place, Settings
from parallelai.work.guard.righting import Lost, Righted
from parallelai.work.guard.taking_in import take_in
from parallelai.work.scratch import hidden
from parallelai.work.sheltering import Shelter


async def lay_out(place: Place, head: str, righted: Righted) -> Lost | None:
    """Lay out what was made outside of what a sparse worktree shows.

    That is what the files came from, beside our commit `head`, and what an index has beside what HEAD was at: the
    sandbox's, or that of the worktree, where people work. Where something lies already, that counts. Gives what cannot
    be laid out, for want of a place. Raises `GitError`, `OSError`.
    """
    shelter = place.settings.shelter
    wanted = await _wanted(place, head, righted, place.git_dir)
    if shelter is not None and await asyncio.to_thread(_is_laid_at, shelter, head):
        wanted |= await _wanted(place, head, righted, shelter.admin)
    return await _write(place, head, wanted) if wanted else None


async def _wanted(place: Place, head: str, righted: Righted, folder: Path) -> dict[bytes, bytes]:
    """What was made by what the index in a git folder says, as mode and object by name."""
    settings, wanted = place.settings, dict[bytes, bytes]()
    async with objects_of(settings.repository.common, head) as git:
        git = replace(git, index=git.git_dir / "index", alternates=(*git.alternates, settings.objects))
        if not await asyncio.to_thread(hidden.has_marks, folder, git.git_dir):
            return wanted
        if await asyncio.to_thread(hidden.has_folders, git.git_dir / "index"):
            await _take_in(settings)
        absent = await _absent(place, git)
        if absent:
            await _take_in(settings)
        if absent and righted.files_at not in (None, head):
            wanted |= await _made(git, absent, "diff-tree", "-r", head, str(righted.files_at))
        if absent and righted.was_at is not None:
            wanted |= await _made(git, absent, "diff-index", "--cached", righted.was_at)
    return wanted


async def _take_in(settings: Settings) -> None:
    if settings.shelter is not None:
        await asyncio.to_thread(take_in, settings.shelter.objects, settings.objects)


def _is_laid_at(shelter: Shelter, head: str) -> bool:
    """Whether a sandbox's git began at our last commit: one that was laid out before a sync says nothing of files."""
    try:
        laid = json.loads((shelter.folder / "laid.json").read_bytes())
    except (OSError, ValueError):
        return False
    return bool(laid["refs"].get(f"refs/heads/{shelter.branch}") == head)


async def _absent(place: Place, git: Git) -> frozenset[bytes]:
    """The paths at which nothing lies, as an index says that nothing has to."""
    listed = await git.attempt("ls-files", "-t", "-z")
    rows = listed.stdout.split(b"\0") if listed.exit == 0 else []
    marked = [row[2:] for row in rows if row.startswith(b"S ")]
    return frozenset(await asyncio.to_thread(hidden.absent, place.worktree, marked))


async def _made(git: Git, names: Collection[bytes], *words: str) -> dict[bytes, bytes]:
    """The files among some that differ, as mode and object by name; git may not have all that it takes to say."""
    done = await git.attempt(words[0], "--raw", "-z", "--no-abbrev", "--no-renames", *words[1:])
    fields = done.stdout.split(b"\0") if done.exit == 0 else []
    pairs = ((row.split(b" "), name) for row, name in zip(fields[::2], fields[1::2], strict=False))
    return {
        name: b"%b %b" % (row[1], row[3]) for row, name in pairs if name in names and row[1] in hidden.FILES
    }


async def _write(place: Place, head: str, wanted: Mapping[bytes, bytes]) -> Lost | None:
    """Write files, each where there is a place for it; gives a tree of `head` with the others."""
    index = place.settings.folder / "outside-index"
    await asyncio.to_thread(index.unlink, missing_ok=True)
    git, check_out = place.plumbing(index), functools.partial(place.attempt, index=index)
    left = await hidden.lay_out(git, place.worktree, wanted, check_out)
    if not left:
        return None
    await git.run("read-tree", head)
    await hidden.put_in(git, {name: wanted[name] for name in left})
    return Lost(await git.line("write-tree", "--missing-ok"), "what was added where something else lies now")
