"""The end of runs; and which have to stay: those that keep work of workstreams that nobody has taken yet."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
from collections.abc import Collection, Iterator
from pathlib import Path

from parallelai.client.project import OpenProject
from parallelai.errors import UsageError
from parallelai.git.repository import Repository, open_repository
from parallelai.processes.temporary import temporary_folder
from parallelai.work.scratch.home import forget
from parallelai.work.streams import left
from parallelai.work.streams.record import Stream
from parallelai.work.streams.registry import Streams

MOST_NAMED = 3
"""How many of a run's patches are named."""


@dataclasses.dataclass(frozen=True, slots=True)
class Holding:
    """A run that keeps work of which no other copy is known: why it stays, and what lets it go."""

    run: str
    why: str
    next: str

    @property
    def error(self) -> UsageError:
        """What is told to somebody who wants that run deleted."""
        return UsageError(f"run `{self.run}` stays: {self.why}", next=self.next)


async def end(project: OpenProject, runs: Collection[str]) -> None:
    """Delete runs, and all that is kept of them. Raises `BusyError` where one is being carried out."""
    for run in runs:
        project.store.journal.delete(run)
        forget(run)
    with contextlib.suppress(UsageError):  # a project that is no repository keeps nothing in git
        await left.let_go_of_runs(await open_repository(project.root), runs)


async def holding(project: OpenProject, runs: Collection[str]) -> dict[str, Holding]:
    """Give those of `runs` that keep work of workstreams, by their ids.

    That is what was kept out of one, or given up with it, also before it was begun anew, as long as its file is there
    and the target has not got it by content; also what is kept in git of what was taken out of its worktree.
    """
    streams = Streams(project.state)
    known = [*streams.all(), *streams.history()]
    if not runs or not known:
        return {}
    repository = await open_repository(project.root)
    found: dict[str, Holding] = {}
    commits = await left.listed(repository)
    for run in runs:
        patches = [
            patch
            for stream in known
            for patch in _patches(stream, repository.root, project.state / "runs" / run)
            if not await _is_taken(repository, stream, patch)
        ]
        names = {each.name for each in known}
        kept = [each.id for each in commits if each.run == run and each.name in names]
        if patches or kept:
            shown = [os.path.relpath(patch, repository.root) for patch in dict.fromkeys(patches)]
            found[run] = _holding(run, shown, kept)
    return found


def _patches(stream: Stream, root: Path, folder: Path) -> Iterator[Path]:
    """The patches in a run's folder that the record of a workstream names, and that are there."""
    for named in dict.fromkeys((stream.patch, *(kept.patch for kept in stream.kept_out))):
        if named is not None and (path := root / named).is_relative_to(folder) and path.exists():
            yield path


async def _is_taken(repository: Repository, stream: Stream, patch: Path) -> bool:
    """Whether the target has what a patch brings: it could be taken out of there again."""
    tip = await repository.commit(f"refs/heads/{stream.target}")
    if tip is None or not patch.is_file():
        return False
    with temporary_folder("index") as folder:
        git = dataclasses.replace(repository.git, index=folder / "index")
        await git.run("read-tree", tip)
        done = await git.attempt("apply", "--cached", "--check", "--reverse", str(patch))
    return done.exit == 0


def _holding(run: str, patches: list[str], commits: list[str]) -> Holding:
    named = ", ".join(f"`{each}`" for each in (*patches, *commits)[:MOST_NAMED])
    more = len(patches) + len(commits) - MOST_NAMED
    shown = f"{named} and {more} more" if more > 0 else named
    why = f"it keeps work of workstreams that has not landed: {shown}"
    if not patches:
        return Holding(run, why, f"`parallelai work clean --left {shlex.quote(commits[0])}` lets it go")
    take = f"`git apply {shlex.quote(patches[0])}` takes it"
    return Holding(run, why, f"{take}; once it is on the target, or the file is removed, the run can go")
