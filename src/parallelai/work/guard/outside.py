"""What git took out of a sparse worktree's files after it was added or committed there (`git mv`, `sparse-checkout`).

It is in no file, and git says of it that it need not be. It is laid out, so that it is judged as all else is.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Collection
from pathlib import Path

from parallelai.git.plumbing import Git
from parallelai.work.guard.place import Place, listing
from parallelai.work.guard.righting import Righted
from parallelai.work.guard.taking_in import take_in
from parallelai.work.sheltering import Shelter
from parallelai.work.streams.indexes import copy_plain

_FILES = (b"100644", b"100755", b"120000")


async def lay_out(place: Place, head: str, righted: Righted, index: Path) -> None:
    """Lay out what was made outside of what a sparse worktree shows; `index` is a copy of its sandbox's.

    That is what the files came from, beside our commit `head`, and what an index has beside what HEAD was at: the
    sandbox's, or that of the worktree, where people work. Where something lies already, that counts.
    Raises `GitError`, `OSError`.
    """
    own = index.with_name("own-index")
    await asyncio.to_thread(own.unlink, missing_ok=True)
    await asyncio.to_thread(copy_plain, place.git_dir / "index", own)
    wanted: dict[bytes, bytes] = {}
    for each in (own, index):
        if each == index and not await asyncio.to_thread(_is_laid_at, place.settings.shelter, head):
            continue
        git = place.plumbing(each)
        absent = await _absent(place, git)
        if absent and (shelter := place.settings.shelter) is not None:
            await asyncio.to_thread(take_in, shelter.objects, place.settings.objects)
        if absent and righted.files_at not in (None, head):
            wanted |= await _made(git, absent, "diff-tree", "-r", head, str(righted.files_at))
        if absent and righted.was_at is not None:
            wanted |= await _made(git, absent, "diff-index", "--cached", righted.was_at)
    if wanted:
        await _write(place, wanted)


def _is_laid_at(shelter: Shelter | None, head: str) -> bool:
    """Whether a sandbox's git began at our last commit: one that was laid out before a sync says nothing of files."""
    try:
        laid = json.loads((shelter.folder / "laid.json").read_bytes()) if shelter is not None else {}
    except (OSError, ValueError):
        return False
    return shelter is not None and laid["refs"].get(f"refs/heads/{shelter.branch}") == head


async def _absent(place: Place, git: Git) -> frozenset[bytes]:
    """The paths at which nothing lies, as an index says that nothing has to."""
    listed = await git.attempt("ls-files", "-t", "-z")
    rows = listed.stdout.split(b"\0") if listed.exit == 0 else []
    hidden = (row[2:] for row in rows if row.startswith(b"S "))
    return frozenset(name for name in hidden if not os.path.lexists(place.worktree / os.fsdecode(name)))


async def _made(git: Git, names: Collection[bytes], *words: str) -> dict[bytes, bytes]:
    """The files among some that differ, as mode and object by name; git may not have all that it takes to say."""
    done = await git.attempt(words[0], "--raw", "-z", "--no-abbrev", "--no-renames", *words[1:])
    fields = done.stdout.split(b"\0") if done.exit == 0 else []
    pairs = ((row.split(b" "), name) for row, name in zip(fields[::2], fields[1::2], strict=False))
    return {name: b"%b %b" % (row[1], row[3]) for row, name in pairs if name in names and row[1] in _FILES}


async def _write(place: Place, wanted: dict[bytes, bytes]) -> None:
    index = place.settings.folder / "outside-index"
    await asyncio.to_thread(index.unlink, missing_ok=True)
    rows = b"".join(b"%b\t%b\0" % (what, name) for name, what in wanted.items())
    await place.plumbing(index).run("update-index", "-z", "--index-info", stdin=rows)
    names = listing(map(os.fsdecode, wanted))
    # One that cannot be laid out does not keep the others from it.
    await place.attempt("checkout-index", "--quiet", "-z", "--stdin", stdin=names, index=index)
