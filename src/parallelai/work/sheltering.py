"""The user's objects, out of the reach of who may write new ones.

Who may commit may write in git's folder of objects, and so delete and change single ones there. Packs it may not
write, and git takes what is in a pack from there. So the single objects are put into a pack, too, before anybody
works in a worktree.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from parallelai.git.repository import Repository


async def shelter(repository: Repository) -> None:
    """Put all single objects that are in no pack yet into one. Where git cannot, nothing is changed."""
    objects = repository.common / "objects"
    names = await asyncio.to_thread(_single, objects)
    if names:
        words = ("--incremental", "--quiet", "--window=0", str(objects / "pack" / "pack"))
        await repository.git.attempt("pack-objects", *words, stdin="".join(names).encode())


def _single(objects: Path) -> list[str]:
    """The names of the objects that lie as files of their own, a line each."""
    found = []
    for number in range(256):
        folder = f"{number:02x}"
        try:
            listed = [path.name for path in (objects / folder).iterdir()]
        except OSError:
            continue
        found += [f"{folder}{name}\n" for name in listed if len(name) in (38, 62)]
    return found
