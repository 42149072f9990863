"""What a landing would make of conflicts: who would settle them, and how many gate runs follow."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from parallelai.records import ErrorRecord
from parallelai.work.landing.explaining import named
from parallelai.work.landing.merging import Chain, Clash, Merging
from parallelai.work.landing.order import closure
from parallelai.work.landing.records import Candidate, Plan

_SHOWN = 5
"""Files of which it is said how they would be settled."""


class Foreseen(Struct, frozen=True):
    """What would become of those that git cannot merge.

    Attributes:
        settled: names, and how each of their conflicts would be settled.
        refused: names that nobody would settle, and why.
        rounds: how many would land together in each round: first those that fit, then those that are settled.
    """

    settled: tuple[tuple[str, str], ...]
    refused: tuple[tuple[str, str], ...]
    rounds: tuple[int, ...]

    def runs(self, plan: Plan) -> int:
        """The gate runs of all rounds, if all pass: one for a batch that is merged, one for each commit else."""
        if plan.method != "merge":
            return sum(self.rounds)
        return sum(-(-count // (plan.batch or count)) for count in self.rounds)


async def foresee(
    merging: Merging, chain: Chain, candidates: Sequence[Candidate], *, may_ask: bool = True
) -> Foreseen:
    """Ask of all that conflicts in a chain who would settle it. No engine is asked, no program runs.

    `may_ask` False leaves out what only an engine or a program would settle: pull requests wait for neither.
    """
    clashes = chain.clashes if may_ask else ()
    commits = (chain.start, *(one.commit for one in chain.members))
    asked = [(ours, one.candidate) for ours, one in zip(commits, chain.members, strict=False) if one.settled]
    asked += [(clash.ours, clash.candidate) for clash in clashes]
    settled, refused = [], []
    for ours, one in asked:
        found = await merging.foresee(ours, one)
        if isinstance(found, ErrorRecord):
            advice = f" ({named(found.next, one, is_ready=True)})" if found.next else ""
            refused.append((one.name, f"{found.said}{advice}"))
        elif found:
            settled.append((one.name, _listed(list(found.values()))))
    out = {name for name, _ in refused}
    able = [clash for clash in clashes if clash.candidate.name not in out]
    return Foreseen(tuple(settled), tuple(refused), _rounds(chain, able, candidates))


def _listed(said: Sequence[str]) -> str:
    """What is said of each file, of many the first few."""
    more = f"; and {len(said) - _SHOWN} more files" if len(said) > _SHOWN else ""
    return "; ".join(said[:_SHOWN]) + more


def _rounds(chain: Chain, able: Sequence[Clash], candidates: Sequence[Candidate]) -> tuple[int, ...]:
    """As a landing does: of those that meet in a file the first is settled first. Who depends on one comes with it."""
    rounds = [len(chain.members)] * bool(chain.members)
    left, landed = list(able), {one.candidate.name for one in chain.members}
    needs = closure(candidates)
    while left:
        met: set[str] = set()
        later = []
        for clash in left:
            if met & set(clash.paths):
                later.append(clash)
            else:
                landed.add(clash.candidate.name)
            met |= set(clash.paths)
        waiting = {one.candidate.name for one in later}
        fit = {name for name, before in needs.items() if before and before <= landed} - landed - waiting
        fit -= {one.candidate.name for one in chain.clashes}
        rounds.append(len(left) - len(later) + len(fit))
        landed |= fit
        left = later
    return tuple(rounds)
