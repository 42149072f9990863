"""A person's leave to change files while nobody carries the workstream's run out: the next run takes it up.

What is written down is what a run would have decided: a file that another workstream owns or holds is not given.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Collection, Sequence
from pathlib import Path

from parallelai.errors import UsageError
from parallelai.git.repository import Repository
from parallelai.results.printable import visible
from parallelai.work.guard.facts import plan_below
from parallelai.work.guard.leases import Claim, Granted, Leases, Refused, Waits, path_of
from parallelai.work.guard.links import link_above
from parallelai.work.guard.rules import Permits
from parallelai.work.putting_back import put_back_left
from parallelai.work.streams.record import Stream
from parallelai.work.streams.registry import Streams


def checked(paths: Sequence[str]) -> list[str]:
    """The paths as they count from the root. Raises `UsageError` for what is no file of the project."""
    found = [(text, path_of(text)) for text in paths]
    bad = [text for text, path in found if path is None]
    if bad:
        raise UsageError(
            f"`{visible(bad[0])}` is no file of the project", next="name files by their paths from its root"
        )
    return [path for _, path in found if path is not None]


async def leave(streams: Streams, root: Path, stream: Stream, paths: Sequence[str]) -> str:
    """Give a workstream leave, and say what was given, and what was put back that had been kept out.

    Raises `UsageError` where it cannot have a file now.
    """
    said = _given(streams, root, stream, paths)
    return "\n".join([said, *await put_back_left(root, streams, stream, paths)])


async def not_there(repository: Repository, stream: Stream, paths: Sequence[str]) -> list[str]:
    """Say which of these files are not there yet, and what was meant where one is misspelt.

    Raises `GitError`, and `UsageError` for a folder: leave for that would be leave for no file in it.
    """
    new, known = await _new(repository, stream, paths)
    said = _no_file_among(new, known, stream)
    if said is not None:
        raise UsageError(said, next="name the files in it, by their paths")
    return [_said_new(path, known) for path in new]


async def no_file_among(repository: Repository, stream: Stream, paths: Sequence[str]) -> str | None:
    """Say what the first of these paths is that means several files, if one does: a lease of it would be of none.

    Raises `GitError`.
    """
    return _no_file_among(*await _new(repository, stream, paths), stream)


async def _new(repository: Repository, stream: Stream, paths: Sequence[str]) -> tuple[list[str], set[str]]:
    """The paths that are no file that is there, and the files that git knows, where that had to be looked up."""
    places = {path: Path(stream.worktree, path) for path in paths}
    unsure = [path for path, place in places.items() if place.is_dir() or not os.path.lexists(place)]
    if not unsure:
        return [], set()
    listed = await repository.git.run("ls-tree", "-r", "-z", "--name-only", "--full-tree", stream.head)
    known = {os.fsdecode(name) for name in listed.split(b"\0") if name}  # a sparse worktree does not show all
    return [
        path for path in unsure if path not in known
    ], known  # submodules and links to folders are known, too


def _no_file_among(new: Sequence[str], known: Collection[str], stream: Stream) -> str | None:
    kept_out = [path for each in stream.kept_out for path in each.paths]  # these are not there any more
    for path in new:
        is_folder = any(name.startswith(f"{path}/") for name in (*known, *kept_out))
        if is_folder or Path(stream.worktree, path).is_dir():
            return f"`{visible(path)}` is a folder"
        if "*" in path:
            return f"`{visible(path)}` is a pattern"
    return None


def _said_new(path: str, known: Collection[str]) -> str:
    folder, _, own = path.rpartition("/")
    near = [name for name in known if name.rpartition("/")[0] == folder or name.rpartition("/")[2] == own]
    meant = difflib.get_close_matches(path, sorted(near), n=1)
    hint = f"; did you mean `{visible(meant[0])}`?" if meant else ""
    return f"`{visible(path)}` is not there yet, and may be made{hint}"


def _given(streams: Streams, root: Path, stream: Stream, paths: Sequence[str]) -> str:
    mates = streams.open(stream.plan)
    places = (Path(stream.worktree), root)
    leases = Leases(
        [each.name for each in mates],
        {each.name: _claim(root, each) for each in mates},
        link_above=lambda _, path: link_above(places, path),
    )
    for each in mates:
        leases.restore(each.name, each.leases)
    answer = leases.leave(stream.name, paths, "a person")
    if isinstance(answer, Waits):
        named = ", ".join(f"`{name}`" for name in answer.on)
        raise UsageError(f"{named} has them first", next="land that first, or drop it")
    if not isinstance(answer, Granted):
        raise UsageError(answer.why if isinstance(answer, Refused) else "a person has to give leave")
    if not answer.paths:
        return f"`{stream.name}` may change that already"
    held = tuple(sorted(leases.of(stream.name)))
    shown = ", ".join(f"`{path}`" for path in answer.paths)
    told = f"You have the lease of {shown} until your work has landed. Go on with your task."
    streams.update(
        stream.name, lambda known: dataclasses.replace(known, leases=held, mail=(*known.mail, told))
    )
    return f"`{stream.name}` may change {shown} until it has landed"


def _claim(root: Path, stream: Stream) -> Claim:
    permits = Permits(stream.rules, plan_file=plan_below(root, stream.plan))
    return Claim(permits, stream.depends_on)
