"""How many of the branches of a group land: here, first come first served, and at best by pairs; and gate runs.

Branches are landed by the real lander, in the private repository that `benchmarks.branches` rebuilt them in. Gates
know which branches are bad: none in the first landing, one in ten, drawn by lot, in the second.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

from benchmarks.branches import Group
from parallelai.events import EventData
from parallelai.git.repository import Repository
from parallelai.work.landing.lander import Lander
from parallelai.work.landing.merging import Merging
from parallelai.work.landing.order import largest_without_conflict
from parallelai.work.landing.records import Arrival, Candidate, Plan, Verdict

BAD_SHARE = 0.1


@dataclass(frozen=True)
class LandingFigures:
    """What came of one group of `branches`.

    Attributes:
        first_come: how many land first come, first served; by the data, where all branches are there.
        landed: how many the lander lands.
        best_by_pairs: the largest set of which no two conflict; `clashing` with the base are left out of it.
        seconds: of the lander, without gates.
        bad: how many of the branches are bad in the second landing.
        landed_of_good: how many of the good ones land in it.
        landed_bad: how many of the bad ones land in it; has to be none.
        runs: gate runs that it took.
        runs_one_by_one: gate runs if each branch that merges had one of its own.
    """

    group: str
    branches: int
    first_come: int
    landed: int
    best_by_pairs: int
    seconds: float
    bad: int
    landed_of_good: int
    landed_bad: int
    runs: int
    runs_one_by_one: int


@dataclass
class KnowingGates:
    """Gates that fail for a tree that holds a bad branch, told by its name."""

    bad: frozenset[str]
    runs: list[tuple[str, ...]] = field(default_factory=list)

    async def judge(self, commit: str, base: str, names: tuple[str, ...]) -> Verdict:
        """Say whether any of the branches is bad."""
        self.runs.append(names)
        return Verdict(not self.bad & set(names))

    async def ready(self, base: str) -> Verdict:
        """The base is green."""
        return Verdict(True)


async def landing_figures(repository: Repository, group: Group) -> LandingFigures:
    """Land a group's branches, with good gates and with some that find bad branches."""
    candidates = [
        Candidate(branch.name, branch.commit, group.base, intent=branch.subject) for branch in group.branches
    ]
    merging = Merging(repository, None, "first-come")
    first_come = len(group.row["fifo_integrated"])
    if group.missing:  # the data's figure is of all of them
        first_come = len((await merging.chain(group.base, candidates)).members)
    clashing = await merging.clashing(group.base, candidates)
    pairs = await merging.conflicts(candidates)
    begun = time.perf_counter()
    arrivals = await _land(repository, group, "all", candidates, None)
    seconds = time.perf_counter() - begun

    chance = random.Random(group.id)
    names = [one.name for one in candidates]
    bad = frozenset(chance.sample(names, round(len(names) * BAD_SHARE)))
    gates = KnowingGates(bad)
    mixed = await _land(repository, group, "some", candidates, gates)
    return LandingFigures(
        group.id,
        len(candidates),
        first_come,
        _count(arrivals),
        best_by_pairs([name for name in names if name not in clashing], pairs),
        seconds,
        len(bad),
        _count([one for one in mixed if one.name not in bad]),
        _count([one for one in mixed if one.name in bad]),
        len(gates.runs),
        _count(mixed) + len(bad),
    )


def best_by_pairs(names: Sequence[str], pairs: frozenset[frozenset[str]]) -> int:
    """How many can land at most, if pairs are all that conflicts."""
    against: dict[str, set[str]] = {name: set() for name in names}
    for a, b in combinations(names, 2):
        if frozenset((a, b)) in pairs:
            against[a].add(b)
            against[b].add(a)
    return len(largest_without_conflict(names, against))


async def _land(
    repository: Repository,
    group: Group,
    label: str,
    candidates: Sequence[Candidate],
    gates: KnowingGates | None,
) -> list[Arrival]:
    target = f"bench-{group.base[:12]}-{label}"
    ref = f"refs/heads/{target}"
    await repository.git.run("update-ref", ref, group.base)
    try:
        return await Lander(repository, Plan(target), gates, None, _silent, ours=frozenset).land(candidates)
    finally:
        await repository.git.attempt("update-ref", "-d", ref)


def _count(arrivals: Sequence[Arrival]) -> int:
    return sum(one.landed is not None for one in arrivals)


def _silent(name: str | None, data: EventData) -> None:
    """Nobody watches."""
