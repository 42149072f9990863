"""The order in which candidates land: dependencies, then the conflict matrix, then priority. Pure.

Of candidates that conflict with one another only some can land. They are chosen so that most land: the largest
set without a conflict, found exactly where the matrix allows it (branch and bound, as in Tarjan and Trojanowski,
"Finding a maximum independent set", 1977), else by taking the ones with the fewest conflicts first.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Mapping, Sequence

from parallelai.errors import UsageError
from parallelai.work.landing.records import Candidate

Pairs = Collection[frozenset[str]]
STEPS = 5_000
"""Branches that are looked at for one knot of conflicts before the fewest conflicts decide."""


def order(
    candidates: Sequence[Candidate], conflicts: Pairs, clashing: Collection[str] = ()
) -> tuple[str, ...]:
    """Give the names in the order in which to land.

    Those that can land together stand first, each after what it depends on; then those that conflict with one
    of these, or with the target (`clashing`), and whatever depends on them. Among equals the fewest conflicts,
    then priority, then the given order count. A dependency that is no candidate is taken as met. Raises
    `UsageError` for candidates that depend on each other in a circle.
    """
    place = {one.name: number for number, one in enumerate(candidates)}
    needs = closure(candidates)
    against = _spread(conflicts, needs)
    urgent = sorted(candidates, key=lambda one: (one.priority, place[one.name]))
    out = {name for name in needs if ({name} | needs[name]) & set(clashing)}
    out |= {name for name in needs if name in against[name]}
    chosen = largest_without_conflict([one.name for one in urgent if one.name not in out], against)
    key = {
        one.name: (one.name not in chosen, len(against[one.name]), one.priority, place[one.name])
        for one in candidates
    }
    return _after_dependencies(candidates, key)


def closure(candidates: Sequence[Candidate]) -> dict[str, frozenset[str]]:
    """For each candidate all candidates that have to land before it, directly or not."""
    direct = {one.name: frozenset(one.depends_on) for one in candidates}
    found: dict[str, frozenset[str]] = {}
    for name in direct:
        seen: set[str] = set()
        waiting = [name]
        while waiting:
            for needed in direct[waiting.pop()]:
                if needed in direct and needed not in seen:
                    seen.add(needed)
                    waiting.append(needed)
        found[name] = frozenset(seen)
    return found


def largest_without_conflict(names: Sequence[str], against: Mapping[str, Collection[str]]) -> frozenset[str]:
    """The largest set of names of which no two conflict; earlier names are preferred among equals.

    Exact as long as a knot of conflicts takes at most `STEPS` to look through.
    """
    number = {name: bit for bit, name in enumerate(names)}
    edges = [sum(1 << number[other] for other in set(against[name]) if other in number) for name in names]
    chosen, left = 0, (1 << len(names)) - 1
    while left:
        knot = _connected(left, edges)
        chosen |= _Choice(edges).of(knot)
        left &= ~knot
    return frozenset(name for name, bit in number.items() if chosen >> bit & 1)


def _spread(conflicts: Pairs, needs: Mapping[str, frozenset[str]]) -> dict[str, set[str]]:
    """Whom each cannot land with. Who conflicts with a candidate also keeps out what depends on that one.

    A candidate that cannot land with what it depends on is against itself.
    """
    needed_by: dict[str, set[str]] = {name: {name} for name in needs}
    for name, needed in needs.items():
        for each in needed:
            needed_by[each].add(name)
    against: dict[str, set[str]] = {name: set() for name in needs}
    for pair in conflicts:
        if len(pair) == 2 and pair <= against.keys():
            one, other = sorted(pair)
            for a in needed_by[one]:
                for b in needed_by[other]:
                    against[a].add(b)
                    against[b].add(a)
    return against


def _after_dependencies(
    candidates: Sequence[Candidate], key: Mapping[str, tuple[bool, int, float, int]]
) -> tuple[str, ...]:
    waits = {one.name: {need for need in one.depends_on if need in key} for one in candidates}
    unlocks: dict[str, list[str]] = {name: [] for name in key}
    for name, needed in waits.items():
        for each in needed:
            unlocks[each].append(name)
    ready = [(key[name], name) for name, needed in waits.items() if not needed]
    heapq.heapify(ready)
    done: list[str] = []
    while ready:
        _, name = heapq.heappop(ready)
        done.append(name)
        for other in unlocks[name]:
            waits[other].discard(name)
            if not waits[other]:
                heapq.heappush(ready, (key[other], other))
    if len(done) < len(key):
        circle = sorted(key.keys() - set(done))
        raise UsageError(f"`{'`, `'.join(circle)}` depend on each other in a circle")
    return tuple(done)


def _connected(left: int, edges: Sequence[int]) -> int:
    """The candidates of `left` that conflicts tie to its first one."""
    knot = fresh = left & -left
    while fresh:
        around = 0
        for bit in _bits(fresh):
            around |= edges[bit]
        fresh = around & left & ~knot
        knot |= fresh
    return knot


class _Choice:
    """Looks for the largest set without a conflict within one knot."""

    def __init__(self, edges: Sequence[int]) -> None:
        self._edges = edges
        self._steps = 0
        self._best = 0

    def of(self, knot: int) -> int:
        self._best = 0
        self._look(knot, 0)
        return self._best

    def _look(self, left: int, chosen: int) -> None:
        self._steps += 1
        while left:
            degrees = {bit: (self._edges[bit] & left).bit_count() for bit in _bits(left)}
            bit = min(degrees, key=lambda each: (degrees[each], each))
            if degrees[bit] > 1 and self._steps <= STEPS:
                break
            chosen |= (
                1 << bit
            )  # at most one conflict, or no time left: never worse than the other, or a guess
            left &= ~(self._edges[bit] | 1 << bit)
        if not left:
            if chosen.bit_count() > self._best.bit_count():
                self._best = chosen
            return
        if (chosen | left).bit_count() <= self._best.bit_count():
            return
        bit = max(degrees, key=lambda each: (degrees[each], -each))
        self._look(left & ~(self._edges[bit] | 1 << bit), chosen | 1 << bit)
        self._look(left & ~(1 << bit), chosen)


def _bits(mask: int) -> list[int]:
    found = []
    while mask:
        low = mask & -mask
        found.append(low.bit_length() - 1)
        mask ^= low
    return found
