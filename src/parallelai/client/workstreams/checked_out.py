"""What lies in the worktrees that branches are checked out in and is not committed: it would not land with them."""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from parallelai.client.workstreams.branches_meant import candidates_of
from parallelai.client.workstreams.landable import without_markers
from parallelai.errors import ParallelAIError
from parallelai.git.repository import Repository
from parallelai.processes.temporary import temporary_folder
from parallelai.records import ErrorRecord
from parallelai.work.conflicts.advice import listed
from parallelai.work.landing.records import Arrival, Candidate
from parallelai.work.streams.now import Now, copy_index, measure_in, paths
from parallelai.work.streams.places import Entry, Place, entries
from parallelai.work.streams.record import Rules, Stream
from parallelai.work.streams.registry import Streams


@dataclasses.dataclass(frozen=True, slots=True)
class Lying:
    """A branch's worktree, what is in it now, and what else its index has staged, such as `git rm --cached` does."""

    worktree: Path
    now: Now
    staged: tuple[str, ...] = ()


async def as_they_are(
    repository: Repository, streams: Streams, found: Sequence[tuple[str, str]]
) -> list[tuple[str, str]]:
    """Branches, by name and tip, each at a commit of what is in its worktree now, committed or not."""
    lying = await _lying(repository, streams, [name for name, _ in found])
    return [(name, lying[name].now.commit if name in lying else tip) for name, tip in found]


async def parted(
    repository: Repository,
    streams: Streams,
    found: Sequence[tuple[str, str]],
    tip: str,
    run: str,
    *,
    is_shadow: bool,
) -> tuple[list[Candidate], list[Arrival]]:
    """Part branches, by name and tip, into those that may land in a run on a target at a tip, and those that may not.

    Where a landing is only tried (`is_shadow`), what is not committed keeps none from it.
    """
    able, held = await candidates_of(repository, tip, found, run), list[Arrival]()
    if not is_shadow:
        able, held = await _without_uncommitted(repository, streams, able, tip)
    able, marked = await without_markers(repository, able)
    return able, [*held, *marked]


async def _without_uncommitted(
    repository: Repository, streams: Streams, candidates: Sequence[Candidate], tip: str
) -> tuple[list[Candidate], list[Arrival]]:
    """Part branches into those that may land on a tip, and those whose work lies in their worktrees still.

    One that brings commits lands without the new files that nobody gave to git there, and says so.
    """
    lying = await _lying(repository, streams, [each.name for each in candidates])
    able, held = [], []
    for each in candidates:
        its = lying.get(each.name)
        if its is None or not (its.now.changed or its.staged):
            able.append(each)
            continue
        edited = [path for path in its.now.changed if path not in its.now.new]
        if edited or its.staged or await repository.ancestor(each.commit, tip):
            held.append(Arrival(each.name, None, _not_committed(its, edited)))
        else:
            said = f"not committed in `{its.worktree}`, and left there: {listed(its.now.new)}"
            able.append(dataclasses.replace(each, notes=(*each.notes, said)))
    return able, held


def _not_committed(lying: Lying, edited: Sequence[str]) -> ErrorRecord:
    here = f"git -C {shlex.quote(str(lying.worktree))}"
    commit = f"`{here} commit`"
    if edited or not lying.staged:
        commit = f"`{here} add -A`, {commit}"
    return ErrorRecord(
        "unavailable",
        f"not committed in its worktree `{lying.worktree}`: {listed([*edited, *lying.staged] or lying.now.new)}",
        None,
        f"commit it there ({commit}), or put it aside; then land it again",
    )


async def _lying(repository: Repository, streams: Streams, names: Iterable[str]) -> dict[str, Lying]:
    """What is in the worktree of each branch that is checked out in one."""
    places = {place.branch: place for place in await _checked_out(repository) if place.branch}
    of = {each.branch: each for each in streams.all()}
    found = {}
    for name in (name for name in names if name in places and places[name].path.is_dir()):
        entry = places[name]
        known = of.get(name)
        is_ours = known is not None and Path(known.worktree) == entry.path
        if known is None or not is_ours:
            known = Stream(name, "", "", name, str(entry.path), "", "", "", Rules(()))
        with contextlib.suppress(ParallelAIError):  # where git cannot look, only what is committed counts
            place = Place(repository, entry)
            now = await measure_in(place, known, is_whole=is_ours)
            staged = (path for path in await _staged(place, now.tip) if path not in now.changed)
            found[name] = Lying(entry.path, now, tuple(staged))
    return found


async def _staged(place: Place, tip: str) -> list[str]:
    """What the index of a worktree has otherwise than its branch."""
    with temporary_folder("index") as folder:
        index = folder / "index"
        await copy_index(place, tip, index)
        words = ("diff-index", "--cached", "-z", "--name-only", "--no-renames", tip, "--")
        return paths((await place.outside(*words, index=index)).stdout)


async def _checked_out(repository: Repository) -> list[Entry]:
    main = (
        [] if repository.is_bare else [Entry(repository.common, repository.root, await repository.branch())]
    )
    return [*main, *entries(repository)]
