"""Checkouts that could not follow a landing: moved when a command is given again, if git would do it by then.

Whoever comes later reads in the records what is so now: what its target has, however it came there, waits for nobody,
and of what does wait the reason and the command are today's.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from parallelai.git.repository import Repository
from parallelai.results.document import WAITS
from parallelai.work.landing.refusing import waits
from parallelai.work.landing.target import Standing, pending_targets, take_over
from parallelai.work.streams.landed import is_taken_over
from parallelai.work.streams.record import Landed, Stream
from parallelai.work.streams.registry import Streams


async def follow(repository: Repository, streams: Streams, plan: str | None = None) -> list[Standing]:
    """Take over what landed beside its target, of one plan or of all; gives what waits still, by target.

    Nothing is written where nothing waits. A target that went a way of its own is left to a person. Of all plans: also
    branches that no plan made, and landings that were taken back.
    """
    beside = [each for each in streams.all() if _is_beside(each) and plan in (None, each.plan)]
    targets = {each.landed.target for each in beside if each.landed is not None}
    if plan is None:
        targets.update(await pending_targets(repository))
    found = {
        target: await take_over(repository, target, streams.worktrees)
        for target in sorted(targets)
        if await repository.commit(f"refs/heads/{target}") is not None
    }
    for stream in beside:
        if stream.landed is not None and stream.landed.target in found:
            now = await _as_it_is(repository, stream.landed, found[stream.landed.target])
            streams.update(stream.name, partial(_with, landed=now))
    return [standing for standing in found.values() if standing.pending is not None]


def _is_beside(stream: Stream) -> bool:
    return stream.state == "landed" and stream.landed is not None and stream.landed.pending is not None


async def _as_it_is(repository: Repository, landed: Landed, standing: Standing) -> Landed:
    """What is to be known of a landing now; one that is neither there nor to be had is left to others."""
    others = tuple(note for note in landed.notes if not note.startswith(WAITS))
    if await is_taken_over(repository, landed):
        return replace(landed, pending=None, notes=others)
    if standing.pending is not None:
        return replace(landed, notes=(*others, waits(standing.why, standing.next)))
    return landed


def _with(stream: Stream, landed: Landed) -> Stream:
    return replace(stream, landed=landed)
