"""When a run will end: simulated with durations that vary, and told as a range (SCHEDULING, Dispatch).

The simulation starts tasks in the scheduler's own order and counts slots, phases, roles and batches; it knows no
failures and no rate limits. Durations come from history where there is any, else they scatter around the
estimate as assistants' do (p99/p50 of about 3.5: lognormal with σ = 0.54).
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from parallelai.run.scheduling.nodes import Node
from parallelai.run.scheduling.ranks import Shape, duration, places
from parallelai.run.scheduling.strategies import DAGStrategy, Strategy

SIGMA = 0.54
"""How assistants' durations scatter."""

_MOST_STARTS = 200_000
"""Simulated starts in one forecast, so that ten thousand tasks take no longer than a second or so."""
_LEAST_RUNS = 20
_Lane = tuple[int, str | None]
"""A phase, and a role that has a limit."""


@dataclass(frozen=True, slots=True)
class PhaseForecast:
    """When a phase ends: seconds from the start of the run."""

    phase: int
    tasks: int
    p50: float
    p90: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """Seconds from start to end, as medians and ninth deciles of the simulated runs.

    `one_by_one` is the median of the same runs with one slot; `critical_path` the ids on the longest path of
    expected durations, and `critical_path_seconds` its length. `runs` were simulated.
    """

    p50: float
    p90: float
    one_by_one: float
    critical_path: tuple[str, ...]
    critical_path_seconds: float
    phases: tuple[PhaseForecast, ...]
    runs: int


def forecast(
    nodes: Sequence[Node],
    groups: Mapping[str, Sequence[str]],
    parallel: int,
    seconds: Mapping[str, Sequence[float]] | None = None,
    runs: int = 100,
    *,
    random: Random,
    strategy: Strategy | None = None,
    phase_parallel: Mapping[int, int] | None = None,
) -> Forecast:
    """Simulate `runs` runs of the nodes with `parallel` slots; fewer of them for very large graphs.

    Args:
        seconds: measured durations by node id, from which each run draws; all others use the estimate.
        random: the source of chance; the same one gives the same forecast.

    Raises:
        ValueError: a number below 1, or nodes that no checked plan gives.
    """
    if parallel < 1 or runs < 1:
        raise ValueError("a forecast needs at least one slot and one run")
    simulation = Simulation(nodes, groups, parallel, strategy or DAGStrategy(), phase_parallel or {})
    measured = [_sound((seconds or {}).get(node.id, ())) for node in nodes]
    expected = [
        _quantile(known, 0.5) if known else duration(node)
        for node, known in zip(nodes, measured, strict=True)
    ]
    count = min(runs, max(_LEAST_RUNS, _MOST_STARTS // max(1, len(nodes))))
    drawn = [[_draw(random, *pair) for pair in zip(expected, measured, strict=True)] for _ in range(count)]
    ends = [simulation.ends(durations) for durations in drawn]
    return _told(simulation.shape, expected, ends, [math.fsum(durations) for durations in drawn])


def _told(
    shape: Shape, expected: Sequence[float], ends: Sequence[Sequence[float]], sums: Sequence[float]
) -> Forecast:
    makespans = [max(one, default=0.0) for one in ends]
    path, length = _longest_path(shape, expected)
    return Forecast(
        p50=_quantile(makespans, 0.5),
        p90=_quantile(makespans, 0.9),
        one_by_one=_quantile(sums, 0.5),
        critical_path=path,
        critical_path_seconds=length,
        phases=_phases(shape.nodes, ends),
        runs=len(ends),
    )


class Simulation:
    """List scheduling of one graph, again and again with other durations."""

    def __init__(
        self,
        nodes: Sequence[Node],
        groups: Mapping[str, Sequence[str]],
        parallel: int,
        strategy: Strategy,
        phase_parallel: Mapping[int, int],
    ) -> None:
        self.shape = Shape(nodes, groups)
        self._parallel = parallel
        self._batch = strategy.batch
        self._phase_parallel = phase_parallel
        found = places(nodes, groups)
        keys = [strategy.key(node, place) for node, place in zip(nodes, found, strict=True)]
        ranked = sorted(range(len(nodes)), key=lambda at: (keys[at], nodes[at].index, at))
        self._rank = [0] * len(nodes)
        for place, at in enumerate(ranked):
            self._rank[at] = place
        self._by_rank = ranked
        self._lane = [(node.phase, node.role.role if node.role is not None else None) for node in nodes]
        self._role_parallel = {node.role.role: node.role.parallel for node in nodes if node.role is not None}

    def ends(self, durations: Sequence[float]) -> list[float]:
        """Give the time at which each node ends, in the order of the nodes."""
        return _Pass(self, durations).carry_out()


class _Pass:
    """One simulated run: a clock, a heap of what is in flight, and one of what is ready for each phase and role."""

    def __init__(self, simulation: Simulation, durations: Sequence[float]) -> None:
        self._of = simulation
        self._durations = durations
        self._ends = [0.0] * len(durations)
        self._missing = list(simulation.shape.preceding)
        self._ready: dict[_Lane, list[int]] = {}
        self._pool: list[int] = []
        self._batched = 0
        self._flying: list[tuple[float, int]] = []
        self._in_phase: Counter[int] = Counter()
        self._in_role: Counter[str | None] = Counter()

    def carry_out(self) -> list[float]:
        for at, count in enumerate(self._of.shape.preceding):
            if count == 0:
                self._arrive(at)
        now = 0.0
        self._start(now)
        while self._flying:
            now = self._flying[0][0]
            while self._flying and self._flying[0][0] == now:
                self._end(heapq.heappop(self._flying)[1], now)
            self._start(now)
        return self._ends

    def _arrive(self, at: int) -> None:
        """Take in a node, or a group, that waits for nothing any more."""
        of = self._of
        if at >= len(self._durations):
            self._release(at)
        elif of._batch is not None:
            heapq.heappush(self._pool, of._rank[at])
        else:
            heapq.heappush(self._ready.setdefault(of._lane[at], []), of._rank[at])

    def _release(self, at: int) -> None:
        for follower in self._of.shape.followers[at]:
            self._missing[follower] -= 1
            if self._missing[follower] == 0:
                self._arrive(follower)

    def _end(self, at: int, now: float) -> None:
        self._ends[at] = now
        self._count(self._of._lane[at], -1)
        self._batched -= 1
        self._release(at)

    def _start(self, now: float) -> None:
        of = self._of
        if of._batch is not None and self._batched <= 0:
            self._batched = min(of._batch, len(self._pool))
            for _ in range(self._batched):
                rank = heapq.heappop(self._pool)
                heapq.heappush(self._ready.setdefault(of._lane[of._by_rank[rank]], []), rank)
        while len(self._flying) < of._parallel:
            lane = self._best_lane()
            if lane is None:
                return
            at = of._by_rank[heapq.heappop(self._ready[lane])]
            self._count(lane, 1)
            heapq.heappush(self._flying, (now + self._durations[at], at))

    def _count(self, lane: _Lane, change: int) -> None:
        phase, role = lane
        self._in_phase[phase] += change
        self._in_role[role] += change

    def _best_lane(self) -> _Lane | None:
        best: _Lane | None = None
        for lane, ready in self._ready.items():
            if not ready or self._is_full(lane):
                continue
            if best is None or ready[0] < self._ready[best][0]:
                best = lane
        return best

    def _is_full(self, lane: _Lane) -> bool:
        phase, role = lane
        of_phase = self._of._phase_parallel.get(phase, math.inf)
        of_role = self._of._role_parallel.get(role, math.inf) if role is not None else math.inf
        return self._in_phase[phase] >= of_phase or self._in_role[role] >= of_role


def _sound(values: Sequence[float]) -> list[float]:
    return [value for value in values if 0.0 <= value < math.inf]


def _draw(random: Random, expected: float, measured: Sequence[float]) -> float:
    if measured:
        return random.choice(measured)
    return expected * random.lognormvariate(0.0, SIGMA) if expected else 0.0


def _quantile(values: Sequence[float], share: float) -> float:
    """Give the smallest value that this share of them does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _longest_path(shape: Shape, seconds: Sequence[float]) -> tuple[tuple[str, ...], float]:
    """Give the ids on the longest path, from its beginning, and its length."""
    to_end = [0.0] * len(shape.followers)
    step: list[int | None] = [None] * len(to_end)
    for at in reversed(shape.order):
        step[at] = max(shape.followers[at], key=to_end.__getitem__, default=None)
        after = step[at]
        to_end[at] = (seconds[at] if at < len(seconds) else 0.0) + (
            to_end[after] if after is not None else 0.0
        )
    at_now = max(range(len(to_end)), key=to_end.__getitem__, default=None)
    length = to_end[at_now] if at_now is not None else 0.0
    path = []
    while at_now is not None:
        if at_now < len(seconds):
            path.append(shape.nodes[at_now].id)
        at_now = step[at_now]
    return tuple(path), length


def _phases(nodes: Sequence[Node], ends: Sequence[Sequence[float]]) -> tuple[PhaseForecast, ...]:
    members: dict[int, list[int]] = {}
    for at, node in enumerate(nodes):
        members.setdefault(node.phase, []).append(at)
    made = []
    for phase, held in sorted(members.items()):
        last = [max(one[at] for at in held) for one in ends]
        made.append(PhaseForecast(phase, len(held), _quantile(last, 0.5), _quantile(last, 0.9)))
    return tuple(made)
