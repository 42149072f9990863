"""A worktree that somebody moved (`git worktree move`, or with a link left): where it is, and what brings it back."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from parallelai.errors import UsageError
from parallelai.git.repository import Repository
from parallelai.work.streams.places import entries, entry_of, is_linked, leads_to
from parallelai.work.streams.record import Stream


def refuse_moved(repository: Repository, stream: Stream) -> None:
    """Raise `UsageError` where a worktree is elsewhere, and nothing, or a link to it, is where it was made.

    It is not followed: its sandbox, and what the guard puts right in git, are about the folder that it was made in.
    """
    if (error := moved(repository, stream)) is not None:
        raise error


def moved(repository: Repository, stream: Stream) -> UsageError | None:
    """What is told of a worktree that was moved, with the command that brings it back; None of another."""
    path = moved_to(repository, stream)
    if path is None:
        return None
    said = f"the worktree of `{stream.name}` was moved from `{stream.worktree}` to `{path}`"
    return UsageError(said, next=f"`{back(path, stream)}` brings it back")


def back(path: Path, stream: Stream) -> str:
    """The command that brings a worktree back from where it was moved to."""
    if Path(stream.worktree).is_symlink():
        return f"{shlex.join(['rm', stream.worktree])} && {shlex.join(['mv', str(path), stream.worktree])}"
    return f"git worktree move {shlex.quote(str(path))} {shlex.quote(stream.worktree)}"


def moved_to(repository: Repository, stream: Stream) -> Path | None:
    """Where a worktree was moved to; None where it is in its place, or nowhere."""
    if Path(stream.worktree).is_symlink():
        entry, real = entry_of(repository, Path(stream.worktree)), Path(os.path.realpath(stream.worktree))
        return real if entry is not None and leads_to(real, entry.admin) else None
    if os.path.lexists(stream.worktree):
        return None
    found = (each for each in entries(repository) if each.branch == stream.branch and is_linked(each))
    return next((each.path for each in found if str(each.admin) == stream.admin), None)
