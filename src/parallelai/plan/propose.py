"""Proposes phases for a plan with workstreams: who can run together, who has to wait, and why.

Each goes into the first phase that is after all it waits for and holds nobody who owns a file that it owns too
(greedy colouring in order of depth, then priority, then plan order). So dependencies are kept, two that overlap
without an order get one, and what may run together does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from parallelai.plan.graph import topological_order
from parallelai.plan.model import Phase, Plan, Task
from parallelai.plan.pairs import Pair
from parallelai.plan.shared_files import likely_shared

__all__ = ["Wave", "likely_shared", "waves", "with_phases"]

_MOST_NAMED = 5


class Wave(Struct, frozen=True):
    """A phase that is proposed: works that may run together. `why` says why they did not start earlier."""

    name: str
    works: tuple[str, ...]
    why: str | None = None


def waves(plan: Plan, pairs: Sequence[Pair]) -> tuple[Wave, ...]:
    """Propose phases for all tasks and workstreams of a plan without cycles; `pairs` are its workstreams'."""
    works = {work.id: work for work in plan.works}
    apart: dict[str, dict[str, Pair]] = {name: {} for name in works}
    for pair in pairs:
        if not pair.is_safe:
            apart[pair.a][pair.b] = apart[pair.b][pair.a] = pair
    at: dict[str, int] = {}
    for name in _in_turn(works):
        number = max((at[other] + 1 for other in works[name].depends_on if other in at), default=0)
        taken = {at[other] for other in apart[name] if other in at}
        while number in taken:
            number += 1
        at[name] = number
    members: list[list[str]] = [[] for _ in range(1 + max(at.values(), default=-1))]
    for name in works:
        if name in at:
            members[at[name]].append(name)
    return tuple(
        Wave(f"phase-{number + 1}", tuple(names), _why(number, names, works, apart, at))
        for number, names in enumerate(members)
    )


def _in_turn(works: Mapping[str, Task]) -> list[str]:
    """The works so that each comes after all that it waits for; of those, the urgent ones first."""
    order = topological_order({name: work.depends_on for name, work in works.items()}) or []
    depth: dict[str, int] = {}
    for name in order:
        depth[name] = max((depth[other] + 1 for other in works[name].depends_on if other in depth), default=0)
    place = {name: index for index, name in enumerate(works)}
    return sorted(order, key=lambda name: (depth[name], works[name].priority, place[name]))


def _why(
    number: int,
    names: Sequence[str],
    works: Mapping[str, Task],
    apart: Mapping[str, Mapping[str, Pair]],
    at: Mapping[str, int],
) -> str | None:
    if not number:
        return None
    last = number - 1
    waited = {other: None for name in names for other in works[name].depends_on if at.get(other) == last}
    met = {
        pair.said.partition(", and neither")[0]: None
        for name in names
        for other, pair in apart[name].items()
        if at.get(other) == last
    }
    parts = [f"after {_joined(list(waited))}"] if waited else []
    return "; ".join([*parts, *list(met)[:_MOST_NAMED]]) or None


def _joined(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    shown = [f"`{name}`" for name in names[:_MOST_NAMED]]
    if more > 0:
        return f"{', '.join(shown)} and {more} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def with_phases(plan: Plan, proposed: Sequence[Wave]) -> Plan:
    """Give the plan with these phases instead of its own."""
    phases = tuple(_phase(wave) for wave in proposed)
    return plan.model_copy(update={"phases": phases})


def _phase(wave: Wave) -> Phase:
    if wave.why is None:  # only what was given is written
        return Phase(name=wave.name, tasks=wave.works)
    return Phase(name=wave.name, tasks=wave.works, why=wave.why)
