"""What the sandbox of a killed attempt committed, and nobody has looked at: it is nowhere else, and would go."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from parallelai.git.repository import Repository
from parallelai.processes.temporary import temporary_folder
from parallelai.work.guard import detours, righting
from parallelai.work.guard.committing import bring_objects
from parallelai.work.guard.place import Place, Settings
from parallelai.work.sheltering import Shelter, folder_of
from parallelai.work.streams.places import entry_of
from parallelai.work.streams.record import Stream
from parallelai.work.streams.registry import Streams


async def commits(
    repository: Repository, streams: Streams, stream: Stream, tip: str
) -> list[tuple[str, str]]:
    """Bring commits of a sandbox that are in no file into the repository; gives each with what it is.

    `tip` is where the branch is. Without the worktree's files, or with a part of them, what its HEAD is at counts, too.
    Raises `GitError`, `OSError`.
    """
    shelter = Shelter(folder_of(streams.state, stream.name), repository.common, stream.branch)
    if not await asyncio.to_thread(lambda: shelter.left().is_touched):
        return []
    entry = entry_of(repository, Path(stream.worktree))
    with temporary_folder("sheltered") as folder:
        settings = Settings(
            repository=repository,
            name=stream.name,
            worktree=Path(stream.worktree),
            branch=stream.branch,
            rules=stream.rules,
            folder=folder,
            patches=folder,
            shelter=shelter,
        )
        place = Place(settings, shelter.admin if entry is None else entry.admin)
        place.make_folders()
        state = await righting.state_of(place, tip)
        is_whole = os.path.isdir(stream.worktree) and not stream.is_sparse  # noqa: PTH112 -- a text
        in_files = (tip, state.head) if is_whole else (tip,)
        tips = (state.head, state.tip, state.origin, *state.others)
        those = list(dict.fromkeys(each for each in tips if each is not None))
        lost = await righting.not_in_files(place, those, in_files)
        held = (*in_files, *(each.commit for each in lost))
        found = [each.commit for each in (*lost, *await detours.left_behind(place, tip, 0, held))]
        if state.stashed is not None:
            found.append(state.stashed)
        kept = [each for each in found if not await _is_like(place, each, tip)]
        for each in kept:
            await bring_objects(place, each, tip)
    return [(each, "what was committed in its sandbox, and nobody has looked at,") for each in kept]


async def _is_like(place: Place, commit: str, tip: str) -> bool:
    """Whether a commit has nothing that the branch has not."""
    done = await place.plumbing().attempt("diff-tree", "--quiet", commit, tip)
    return done.exit == 0
