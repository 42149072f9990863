"""Commits that an assistant made and left on no branch: only the log of its worktree's HEAD knows of them.

Whoever checks out something else leaves a detached HEAD behind. What is left by an amended commit, a rebase or a
reset is none of it: these say themselves that another commit stands for it. (Lines of a log: `git reflog`.)
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection
from pathlib import Path

from parallelai.engines.planted import read_plain
from parallelai.work.guard import righting
from parallelai.work.guard.place import Place

MOST = 20
"""Of such commits that are looked at, the last ones."""
_MOST_BYTES = 4 * 1024 * 1024
_LEFT = re.compile(rb"^([0-9a-f]{40,64}) [0-9a-f]{40,64} [^\t]*\tcheckout: moving from ", re.MULTILINE)


def left(log: bytes) -> tuple[str, ...]:
    """The commits that HEAD was on before something else was checked out, the last first."""
    found = dict.fromkeys(name.decode() for name in reversed(_LEFT.findall(log)))
    return tuple(found)[:MOST]


def read_log(place: Place, start: int) -> bytes:
    """What a turn wrote into the log of HEAD; `start` is where that of the worktree ended before, in bytes."""
    shelter = place.settings.shelter
    folder: Path = place.git_dir
    if shelter is not None and shelter.left().is_touched:
        folder, start = shelter.admin, 0
    try:
        return read_plain(folder / "logs" / "HEAD", _MOST_BYTES, start=start)
    except OSError:  # there is none, or something else lies there
        return b""


async def left_behind(
    place: Place, head: str, start: int, held: Collection[str | None]
) -> list[righting.Lost]:
    """Those commits whose changes nothing holds: neither a commit of `held`, nor one like them in its history.

    Raises `GitError`.
    """
    found: list[righting.Lost] = []
    for name in left(await asyncio.to_thread(read_log, place, start)):
        known = [*held, *(each.commit for each in found)]
        if await righting.whole(place, head, name) is not None:
            for each in await righting.not_in_files(place, [name], known):
                if not await _is_elsewhere(place, head, name, known):
                    found.append(each)
    return found


async def _is_elsewhere(place: Place, head: str, commit: str, held: Collection[str | None]) -> bool:
    """Whether each change that leads from `head` to a commit was also made in the history of another one."""
    for other in held:
        if other is None or other == head:
            continue
        words = ("rev-list", "--cherry-pick", "--right-only", "--max-count=1")
        done = await place.plumbing().attempt(*words, f"{other}...{commit}", f"^{head}", "--")
        if done.exit == 0 and not done.stdout:
            return True
    return False
