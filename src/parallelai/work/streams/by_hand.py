"""Work that a person has in a worktree, and has not called done: no assistant begins over it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from parallelai.errors import UsageError
from parallelai.git.repository import Repository
from parallelai.results.printable import visible
from parallelai.work.streams.carrying import trees
from parallelai.work.streams.now import measure
from parallelai.work.streams.places import entry_of
from parallelai.work.streams.record import Stream

_MOST = 5
"""How many files of one are named."""


async def refuse_begun(repository: Repository, streams: Sequence[Stream]) -> None:
    """Refuse to begin workstreams that were started by hand, and hold work. Raises `UsageError`, `GitError`."""
    worked_on = [each for each in streams if each.state == "open"]
    found = {each.name: paths for each in worked_on if (paths := await unsaid(repository, each))}
    if not found:
        return
    which = "; ".join(f"`{name}` ({_shown(paths)})" for name, paths in found.items())
    said = f"an assistant would begin over what was done by hand, and nobody has called done: {which}"
    name = shlex.quote(next(iter(found)))
    ways = (
        f"`parallelai work done {name}` takes it as it is, `parallelai work drop {name}` keeps a patch of it"
    )
    raise UsageError(said, next=f"{ways}; `--only` with the names of others leaves it alone")


async def unsaid(repository: Repository, stream: Stream) -> tuple[str, ...]:
    """The files that a person changed in a worktree, committed or not, since it was cut, or last called done."""
    since = stream.head if stream.refused_head is not None else stream.base
    place = Path(stream.worktree)
    if entry_of(repository, place) is None or not place.is_dir():
        at = await repository.commit(f"refs/heads/{stream.branch}") or stream.head
        return tuple(each.path for each in await trees(repository, since, at))
    now = await measure(repository, stream)
    return (*(each.path for each in await trees(repository, since, now.commit)), *now.left_out)


def _shown(paths: Sequence[str]) -> str:
    named = ", ".join(f"`{visible(path)}`" for path in paths[:_MOST])
    return f"{named} and {len(paths) - _MOST} more" if len(paths) > _MOST else named
