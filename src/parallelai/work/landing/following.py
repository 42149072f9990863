"""Checkouts that could not follow a landing: moved when a command is given again, if git would do it by then.

Whoever comes later reads in the records what is so now: what its target has, however it came there, waits for nobody,
and of what does wait the reason and the command are today's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from parallelai.git.repository import Repository
from parallelai.results.document import WAITS
from parallelai.work.landing.refusing import waits
from parallelai.work.landing.rows import first_parents
from parallelai.work.landing.target import Standing, Target, pending_targets, take_over
from parallelai.work.streams.base import LANDING
from parallelai.work.streams.landed import is_taken_over
from parallelai.work.streams.record import Landed, Stream, pending_part
from parallelai.work.streams.registry import Streams


async def follow(repository: Repository, streams: Streams, plan: str | None = None) -> list[Standing]:
    """Take over what landed beside its target, of one plan or of all; gives what waits still, by target.

    Nothing is written where nothing waits. A target that went a way of its own is left to a person. Of all plans: also
    branches that no plan made, and landings that were taken back.
    """
    beside = {
        each.name: part
        for each in streams.all()
        if plan in (None, each.plan) and (part := pending_part(each)) is not None
    }
    targets = {part.target for part in beside.values()}
    if plan is None:
        targets.update(await pending_targets(repository))
    found = {
        target: await take_over(repository, target, streams.worktrees)
        for target in sorted(targets)
        if await repository.commit(f"refs/heads/{target}") is not None
    }
    for name, part in beside.items():
        if part.target in found:
            now = await as_it_is(repository, part, found[part.target])
            streams.update(name, partial(_with, before=part, now=now))
    return [standing for standing in found.values() if standing.pending is not None]


async def undone_beside(
    repository: Repository, undone: Sequence[Stream], *, is_last: bool = False
) -> dict[str, Landed]:
    """Give by name what took workstreams or branches back and waits beside its target.

    `is_last`: only what came last there.
    """
    found: dict[str, Landed] = {}
    for target in sorted({each.target for each in undone}.intersection(await pending_targets(repository))):
        commit, pending = await Target(repository, target, frozenset).both()
        if pending is None or await repository.ancestor(pending, commit):
            continue
        rows = await first_parents(repository, pending, [commit])
        for row in rows[: 1 if is_last else None]:
            by = Landed(
                target, row.parents[0], row.commit, await repository.tree(row.commit), LANDING + target
            )
            mine = (each.name for each in undone if each.target == target and each.head in row.undoes)
            for name in mine:
                found.setdefault(name, by)
    return found


async def take_along(repository: Repository, streams: Streams, target: str, where: str) -> list[Stream]:
    """Write down of all that landed on a target before it was pushed that the push took it along; gives these.

    `where` is the remote's branch (`Landed.pushed`). A landing that the target holds no more went with no push.
    """
    pushed = await repository.commit(f"refs/remotes/{where}") or await repository.commit(
        f"refs/heads/{target}"
    )
    found = []
    for stream in streams.all():
        landed = stream.landed
        if stream.state != "landed" or landed is None or landed.target != target or landed.pushed == where:
            continue
        if pushed is not None and await repository.ancestor(landed.commit, pushed):
            now = replace(landed, pushed=where)
            found.append(streams.update(stream.name, partial(_with, before=landed, now=now)))
    return found


async def as_it_is(repository: Repository, landed: Landed, standing: Standing) -> Landed:
    """What is to be known of a landing now; one that is neither there nor to be had is left to others."""
    others = tuple(note for note in landed.notes if not note.startswith(WAITS))
    if await is_taken_over(repository, landed):
        return replace(landed, pending=None, notes=others)
    if standing.pending is not None:
        return replace(landed, notes=(*others, waits(standing.why, standing.next)))
    return landed


def _with(stream: Stream, before: Landed, now: Landed) -> Stream:
    """Its landing as it is now, or what took that back, if it is still that."""
    if stream.landed == before:
        return replace(stream, landed=now)
    return replace(stream, undone_by=now) if stream.undone_by == before else stream
