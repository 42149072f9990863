"""What is told of a landing whose branches merge cleanly, and do not work together: one uses what another took away."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from parallelai.errors import ParallelAIError
from parallelai.git.repository import Repository
from parallelai.work.conflicts import Head, Matrix
from parallelai.work.conflicts.waiting import merged_logic
from parallelai.work.landing.records import Arrival, Candidate


@dataclasses.dataclass(frozen=True, slots=True)
class Logic:
    """A logic conflict: the two names, the second of which may be the target's, and what is told of it."""

    names: tuple[str, str]
    said: str


async def logic_conflicts(
    repository: Repository, cache: Path | None, candidates: Sequence[Candidate], target: Head
) -> tuple[Logic, ...]:
    """Find the logic conflicts of candidates with each other and with the target. A gate may see them, or not."""
    heads = [Head(one.name, one.commit, one.owns) for one in candidates]
    try:
        found = await Matrix(repository, cache).look(heads, target)
    except ParallelAIError:  # only a note: it keeps nothing from landing
        return ()
    noted = ((pair, merged_logic(pair)) for pair in found.pairs)
    return tuple(Logic((pair.a, pair.b), said) for pair, said in noted if said is not None)


def with_notes(arrivals: Sequence[Arrival], found: Sequence[Logic]) -> list[Arrival]:
    """Tell of logic conflicts with each candidate that has one."""
    return [
        dataclasses.replace(one, notes=(*one.notes, *(each.said for each in found if one.name in each.names)))
        for one in arrivals
    ]
