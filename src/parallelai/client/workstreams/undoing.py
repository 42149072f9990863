"""What `work undo` takes back, and in which order: later landings first, and what landed as one together."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from msgspec import Struct

from parallelai.client.workstreams.landable import finished
from parallelai.errors import NotFoundError, UsageError
from parallelai.git.repository import Repository
from parallelai.work.landing.following import as_it_is, follow, undone_beside
from parallelai.work.landing.target import Standing
from parallelai.work.streams.record import Landed, Stream, is_undone, pending_part
from parallelai.work.streams.registry import Streams

_MOST_NAMED = 10
_TRIES = 20


class Step(Struct, frozen=True):
    """Workstreams that are taken back by one commit; `part` is the tip of one whose merge is within a batch."""

    streams: tuple[Stream, ...]
    part: str | None = None


async def named(
    repository: Repository, streams: Streams, branches: Mapping[str, Stream], name: str
) -> Stream:
    """Give the workstream of a name or branch, or else the branch that landed without a plan (`landed_branches`).

    Raises `NotFoundError`; where the name is another branch's, with what helps there.
    """
    stream = streams.get(name) if "/" not in name else None
    if stream is not None and (stream.landed is not None or name not in branches):
        return stream
    if name in branches:
        return branches[name]
    known = streams.all()
    its = next((each for each in known if each.branch == name and (each.landed or each.undone)), None)
    if its is not None:
        return its
    again = (each for each in branches.values() if each.landed is None and name in _names(each.branch))
    if (taken := next(again, None)) is not None:  # the branch that was made when it was taken back
        return taken
    landed = await _merge_of(repository, name)
    if landed is None and await repository.commit(f"refs/heads/{name}") is None:
        there = [each.name for each in (*known, *branches.values()) if each.landed is not None]
        listed = ", ".join(f"`{each}`" for each in there[:_MOST_NAMED])
        raise NotFoundError(
            f"no workstream or branch `{name}` has landed here",
            next=f"these have, and can be taken back: {listed}" if there else "nothing has landed yet",
        )
    how = "`git revert -m 1 COMMIT` takes a merge back, `git revert COMMIT` another commit"
    if landed is not None:
        how = f"`git revert -m 1 {landed[:10]}` takes its merge back"
    raise NotFoundError(f"no run that is kept landed `{name}`", next=how)


async def _merge_of(repository: Repository, name: str) -> str | None:
    """The last merge on the checked-out branch that landed a branch of this name alone: its trailers say so."""
    task = "%(trailers:key=ParallelAI-Task,valueonly,separator=%x00)"
    words = ("--merges", "--fixed-strings", f"--grep=ParallelAI-Task: {name}", f"--format=%H%x00{task}")
    found = await repository.git.attempt("log", *words, "HEAD", "--")
    rows = (os.fsdecode(row).split("\0") for row in found.stdout.splitlines())
    return next((commit for commit, *names in rows if names == [name]), None)


async def steps(repository: Repository, wanted: Sequence[Stream], known: Sequence[Stream]) -> list[Step]:
    """Say what is taken back one after the other; without `wanted` the latest landing, all that came with it.

    What was taken back before is left out, where something else is wanted, too. Nothing is touched. Raises
    `NotFoundError` and `UsageError` where something wanted has not landed.
    """
    left = [each for each in wanted if not _is_back(each)]
    if wanted and not left:
        raise UsageError(
            f"`{wanted[0].name}` was taken back already", next=await _lands_again(repository, wanted[0])
        )
    for stream in left:
        if stream.landed is None:
            raise UsageError(
                f"`{stream.name}` has not landed: there is nothing to take back",
                next=f"`parallelai work status {shlex.quote(stream.name)}` says how it stands",
            )
        if not _brought(stream):
            raise UsageError(f"`{stream.name}` brought nothing new: there is nothing to take back")
        if _is_merged_elsewhere(stream):
            raise UsageError(
                f"`{stream.name}` was squashed or rebased into `{stream.target}` where its pull request was merged",
                next=f"`git log {shlex.quote(stream.target)}` lists its commits; `git revert COMMIT` takes one back",
            )
    ours = [each for each in known if each.landed and _brought(each) and not _is_merged_elsewhere(each)]
    landed = await _latest_first(repository, ours)
    if not landed and any(each.undone is not None for each in known):
        raise NotFoundError(
            "all that had landed was taken back already", next="`parallelai work land NAME` lands it again"
        )
    if not landed:
        raise NotFoundError(
            "nothing has landed yet",
            next="`parallelai work status` says what is on its way",
        )
    names = {each.name for each in left} or {each.name for each in _mates(landed[0], landed)}
    found: list[Step] = []
    for stream in landed:
        if stream.name in names and not any(stream in step.streams for step in found):
            found.append(await _step(repository, stream, _mates(stream, landed), names))
    return found


def _is_back(stream: Stream) -> bool:
    """Whether its landing was taken back, and it has not landed since."""
    return stream.landed is None and stream.undone is not None


async def taken_over(
    repository: Repository, streams: Streams, wanted: Sequence[Stream], known: Sequence[Stream]
) -> list[Stream]:
    """Where the same call took these back before, and a checkout was in the way: move that, if git would by now.

    Gives them as they are now, and nobody where something is still to be taken back. Without `wanted` it is what was
    taken back last: who calls again means that, and not what had landed before it.
    """
    undone = [each for each in wanted or known if is_undone(each)]
    beside = await undone_beside(repository, undone, is_last=not wanted)
    if wanted:
        is_again = all(is_undone(each) and (each.name in beside or pending_part(each)) for each in wanted)
        meant = list(wanted) if is_again else []
    else:
        meant = [each for each in undone if each.name in beside]
    if not meant:
        return []
    waiting = {standing.target: standing for standing in await follow(repository, streams)}
    now: list[Stream] = []
    for each in meant:
        if streams.get(each.name) is not None and each.worktree:
            now.append(streams.find(each.name))
            continue
        standing = waiting.get(each.target) or Standing(each.target, None, None)
        by = await as_it_is(repository, beside[each.name], standing)
        now.append(replace(each, undone_by=by, branch=await branch_again(repository, each)))
    return now


async def _lands_again(repository: Repository, stream: Stream) -> str | None:
    """What lands again what was taken back, or begins it anew; None where a branch is gone, or has other work."""
    if stream.state == "dropped":
        return finished(stream).next
    if stream.worktree:
        return f"`parallelai work land {stream.name}` lands it again"
    for name in _names(stream.branch):
        tip = await repository.commit(f"refs/heads/{name}")
        if tip is not None and await repository.ancestor(stream.head, tip):
            return f"`parallelai work land --branches {shlex.quote(name)}` lands it again"
    return None


def _names(branch: str) -> tuple[str, ...]:
    """What the branch may be called that has what was taken back: its own name comes first."""
    flat = branch.replace("/", "-")
    return (branch, f"{branch}-undone", *(f"{flat}-undone-{number}" for number in range(2, _TRIES)))


async def branch_again(repository: Repository, stream: Stream) -> str:
    """Give the branch that has what was taken back. It is made again where it went when that landed.

    Where other work has taken its name meanwhile, or a name that stands in its way, it gets another one.
    """
    own = stream.branch
    if stream.worktree and Path(stream.worktree).is_dir():
        return own
    for name in _names(own):
        tip = await repository.commit(f"refs/heads/{name}")
        if tip is not None and await repository.ancestor(stream.head, tip):
            return name
        is_free = tip is None and await repository.commit(stream.head) is not None
        if is_free and await repository.move(
            f"refs/heads/{name}", stream.head, None, "parallelai: taken back"
        ):
            return name
    return own


async def _step(repository: Repository, stream: Stream, mates: list[Stream], names: set[str]) -> Step:
    """The step of one: alone where it has a merge of its own, else with all that landed in the same commit."""
    merged = await _merged(repository, stream.landed) if stream.landed is not None else []
    is_whole = names >= {each.name for each in mates} and len(merged) == len(mates)
    if stream.head in merged and not is_whole:
        return Step((stream,), stream.head)
    return Step(tuple(mates))


def _mates(stream: Stream, landed: Sequence[Stream]) -> list[Stream]:
    """Those that became part of the target by the same commit, itself among them."""
    return [each for each in landed if _key(each) == _key(stream)]


def _key(stream: Stream) -> tuple[str, str, str]:
    landed = stream.landed
    return (stream.target, landed.before, landed.commit) if landed is not None else (stream.target, "", "")


def _brought(stream: Stream) -> bool:
    """Whether it has commits of its own; what changed nothing lands as a part of whatever was there."""
    return stream.head != stream.base


def _is_merged_elsewhere(stream: Stream) -> bool:
    """Whether its target has only its content, by commits of somebody else of which nobody knows which they are."""
    return stream.landed is not None and stream.landed.before == stream.landed.commit


async def _merged(repository: Repository, landed: Landed) -> list[str]:
    """The tips that were merged one by one before they landed as a batch."""
    rows = await repository.git.attempt(
        "rev-list", "--merges", "--parents", f"^{landed.before}", landed.commit, "--"
    )
    found = [row.split() for row in os.fsdecode(rows.stdout).splitlines()]
    return [row[2] for row in found if len(row) == 3 and row[0] != landed.commit]


async def _latest_first(repository: Repository, landed: Sequence[Stream]) -> list[Stream]:
    """Order landings as the target's history has them, the latest first."""
    commits = [each.landed.commit for each in landed if each.landed is not None]
    before = [each.landed.before for each in landed if each.landed is not None]
    shared = await repository.git.attempt("merge-base", "--octopus", *before) if before else None
    old = [f"^{os.fsdecode(shared.stdout).strip()}"] if shared is not None and shared.exit == 0 else []
    listed = await repository.git.attempt(
        "rev-list", "--topo-order", "--ignore-missing", *commits, *old, "--"
    )
    place = {commit: number for number, commit in enumerate(os.fsdecode(listed.stdout).splitlines())}
    return sorted(landed, key=lambda each: place.get(each.landed.commit if each.landed else "", len(place)))
