"""A merge driver for people's own git: `parallelai work merge-driver %O %A %B %P`.

    [merge "parallelai"]
        name = settles what is known
        driver = parallelai work merge-driver %O %A %B %P

and in `.gitattributes` `* merge=parallelai`. See gitattributes(5), "Defining a custom merge driver": what was
settled is in the file that `%A` names and the exit is 0, else markers are in it and the exit is 1.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from parallelai.git.plumbing import Git
from parallelai.git.repository import Repository, open_repository
from parallelai.work.resolvers import decisions
from parallelai.work.resolvers.asking import refused
from parallelai.work.resolvers.decisions import Decisions
from parallelai.work.resolvers.history import gather
from parallelai.work.resolvers.ladder import climb, rungs
from parallelai.work.resolvers.records import Conflict, History, Rung
from parallelai.work.resolvers.splitting import Split, merged_text, split

RESOLVED, CONFLICT = 0, 1
_HEAD = re.compile(r"GITHEAD_([0-9a-f]{40}|[0-9a-f]{64})")


def drive(base: Path, ours: Path, theirs: Path, path: str, *, kept: Decisions | None = None) -> int:
    """Merge one file for git, which calls this at the top of a worktree; see `merge_file`.

    Raises `UsageError` outside of a repository.
    """

    async def merged() -> int:
        repository = await open_repository(Path.cwd())
        return await merge_file(base, ours, theirs, path, repository=repository, kept=kept)

    return asyncio.run(merged())


async def merge_file(
    base: Path,
    ours: Path,
    theirs: Path,
    path: str,
    *,
    repository: Repository,
    kept: Decisions | None = None,
    resolvers: Sequence[Rung] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> int:
    """Merge one file for git.

    Args:
        base: `%O`, a file with the base's content; empty where there is none.
        ours: `%A`, a file with ours, which gets the result.
        theirs: `%B`, a file with theirs.
        path: `%P`, where the file is in the repository.
        repository: that one.
        kept: the decisions to look in; none are made here.
        resolvers: the ladder, None for all that are registered.
        environ: where git names the commit that is merged (`GITHEAD_…`).

    Returns:
        0 where `ours` now holds the merged file, 1 where it holds conflict markers, or is as it was because it is
        no text. Raises OSError where a file cannot be read or written.
    """
    git = repository.git
    old, mine, other = [await asyncio.to_thread(file.read_bytes) for file in (base, ours, theirs)]
    conflict = Conflict(path, old, mine, other, "content", await _history(repository, path, environ))
    parts = await split(git, conflict)
    if parts is None:
        return CONFLICT
    if not parts.hunks:
        await asyncio.to_thread(ours.write_bytes, parts.texts[0])
        return RESOLVED
    settled = await _settled(conflict, parts, kept, rungs() if resolvers is None else resolvers)
    if settled is None:
        settled = await _with_markers(git, conflict)
        if settled is not None:
            await asyncio.to_thread(ours.write_bytes, settled)
        return CONFLICT
    await asyncio.to_thread(ours.write_bytes, settled)
    return RESOLVED


async def _settled(
    conflict: Conflict, parts: Split, kept: Decisions | None, ladder: Sequence[Rung]
) -> bytes | None:
    key = decisions.key_of(conflict, parts)
    found = await asyncio.to_thread(kept.find, key.key) if kept is not None else None
    made = decisions.applied(found, key, parts) if found is not None else None
    if made is not None and made[0] is not None and refused(conflict, made[0]) is None:
        return made[0]
    answer = await asyncio.to_thread(climb, conflict, parts, ladder)
    return answer.text if answer is not None else None


async def _with_markers(git: Git, conflict: Conflict) -> bytes | None:
    return await merged_text(git, conflict.ours or b"", conflict.base or b"", conflict.theirs or b"")


async def _history(repository: Repository, path: str, environ: Mapping[str, str]) -> History:
    """What history says, where git tells which commit is being merged; nothing otherwise."""
    heads = [found[1] for name in environ if (found := _HEAD.fullmatch(name))]
    head = await repository.as_user("rev-parse", "--verify", "--quiet", "HEAD", at=Path.cwd())
    ours = head.stdout.decode(errors="replace").strip()
    others = [each for each in heads if each != ours]
    if head.exit != 0 or len(others) != 1:
        return History()
    return (await gather(repository.git, ours, others[0], [path]))[path]
