"""What came to a worktree or its branch after a person called it done: it does not land with that."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from parallelai.errors import ParallelAIError
from parallelai.git.repository import Repository
from parallelai.work.streams.now import Now, measure, paths
from parallelai.work.streams.record import Stream

_SHOWN = 5


class More(Struct, frozen=True):
    """The paths that differ from what was called done, and whether all of it is committed."""

    paths: tuple[str, ...]
    is_committed: bool


async def more_than_done(repository: Repository, stream: Stream) -> More | None:
    """Look for what is there beyond a workstream's head; None where there is nothing, or nobody can say."""
    try:
        now = await _now(repository, stream)
        words = ("diff-tree", "-r", "-z", "--name-only", "--no-renames", stream.head, now.commit)
        found = tuple(paths(await repository.git.run(*words)))
    except (
        ParallelAIError
    ):  # the folder is no worktree any more, say: what was called done lands all the same
        return None
    return More(found, not now.changed) if found else None


async def _now(repository: Repository, stream: Stream) -> Now:
    if Path(stream.worktree).is_dir():
        return await measure(repository, stream)
    tip = await repository.commit(f"refs/heads/{stream.branch}") or stream.head
    return Now(tip, tip)


def said_of(more: More, stream: Stream, *, has_landed: bool) -> str:
    """What a person is told of it, with the command that takes it, too."""
    named = ", ".join(f"`{path}`" for path in more.paths[:_SHOWN])
    named += f" and {len(more.paths) - _SHOWN} more" if len(more.paths) > _SHOWN else ""
    if has_landed:
        words = [] if more.is_committed else [commits_all(stream)]
        words.append(f"parallelai work land --branches {shlex.quote(stream.branch)}")
        return f"changed after `work done`, and not landed: {named}; `{' && '.join(words)}` lands that, too"
    command = shlex.join(["parallelai", "work", "done", stream.name])
    if not Path(stream.worktree).is_dir():
        command = f"{shlex.join(['parallelai', 'work', 'start', stream.plan, stream.name])} && {command}"
    return f"changed after `work done`, and left out: {named}; `{command}` takes that in"


def commits_all(stream: Stream, left_out: Sequence[str] = ()) -> str:
    """The command by which a person commits what lies in the worktree of what has landed.

    `left_out` is what git cannot record: of a repository inside it would take no more than a commit's name.
    """
    there = f"git -C {shlex.quote(stream.worktree)}"
    but = "".join(" " + shlex.quote(":(exclude,literal)" + each.rstrip("/")) for each in left_out)
    adds = f"{there} add --all{f' -- .{but}' if but else ''}"
    return f"{adds} && {there} commit -m {shlex.quote(f'More of {stream.name}')}"
