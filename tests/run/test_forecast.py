"""Forecasts: a range from simulated runs, in the scheduler's own order."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scheduler_world import World, node, nodes, ok

from parallelai.run.forecast import Simulation, forecast
from parallelai.run.scheduling.nodes import Node, RoleLimit
from parallelai.run.scheduling.settings import Settings
from parallelai.run.scheduling.strategies import (
    BatchStrategy,
    DAGStrategy,
    ParallelStrategy,
    PipelineStrategy,
)


def chain(*seconds: float) -> list[Node]:
    return [
        node(f"t{at}", at, depends_on=(f"t{at - 1}",) if at else (), estimate_seconds=one)
        for at, one in enumerate(seconds)
    ]


def test_known_durations_give_an_exact_forecast() -> None:
    graph = [*chain(0, 0), node("side", 2)]
    told = forecast(graph, {}, 2, {"t0": [3.0], "t1": [4.0], "side": [5.0]}, random=Random(0))
    assert (told.p50, told.p90, told.one_by_one) == (7.0, 7.0, 12.0)
    assert told.critical_path == ("t0", "t1")
    assert told.critical_path_seconds == 7.0


def test_estimates_alone_give_a_range() -> None:
    told = forecast(nodes(*[f"t{at}" for at in range(20)]), {}, 4, random=Random(1))
    assert 300 < told.p50 < told.p90
    alone = forecast(nodes(*[f"t{at}" for at in range(20)]), {}, 1, random=Random(1))
    assert told.one_by_one == pytest.approx(alone.p50), "both are told from the same simulated durations"
    assert told.one_by_one > 1200.0
    assert told.runs == 100


def test_the_same_chance_gives_the_same_forecast() -> None:
    graph = nodes("a", "b", "c")
    assert forecast(graph, {}, 2, random=Random(7)) == forecast(graph, {}, 2, random=Random(7))


def test_the_critical_path_goes_through_groups() -> None:
    graph = [
        *chain(5, 9),
        node("all", 2, awaits=("g",), estimate_seconds=2),
        node("x", 3, estimate_seconds=3),
    ]
    told = forecast(graph, {"g": ("t1", "x")}, 8, random=Random(0))
    assert told.critical_path == ("t0", "t1", "all")
    assert told.critical_path_seconds == 16.0


def test_phases_end_one_after_another() -> None:
    graph = [
        node("a"),
        node("b", 1, phase=1, awaits=("phase:0",)),
        node("c", 2, phase=1, awaits=("phase:0",)),
    ]
    known = {"a": [2.0], "b": [3.0], "c": [3.0]}
    told = forecast(graph, {"phase:0": ("a",)}, 8, known, random=Random(0), phase_parallel={1: 1})
    assert [(one.phase, one.tasks, one.p50) for one in told.phases] == [(0, 1, 2.0), (1, 2, 8.0)]


def test_nothing_to_do_takes_no_time() -> None:
    told = forecast([], {}, 1, random=Random(0))
    assert (told.p50, told.p90, told.one_by_one, told.critical_path, told.phases) == (0.0, 0.0, 0.0, (), ())


def test_durations_that_are_none_are_left_out() -> None:
    told = forecast(nodes("a"), {}, 1, {"a": [math.inf, -1.0, math.nan, 4.0]}, random=Random(0))
    assert told.p90 == 4.0
    odd = forecast([node("a", estimate_seconds=math.inf)], {}, 1, random=Random(0))
    assert odd.p90 == 0.0


@pytest.mark.parametrize(("parallel", "runs"), [(0, 1), (1, 0)])
def test_numbers_below_one_are_refused(parallel: int, runs: int) -> None:
    with pytest.raises(ValueError):
        forecast(nodes("a"), {}, parallel, runs=runs, random=Random(0))


def test_large_graphs_are_simulated_fewer_times() -> None:
    many = [node(f"t{at}", at) for at in range(5000)]
    assert forecast(many, {}, 50, random=Random(0)).runs == 40


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 14), st.integers(1, 5))
def test_the_simulation_is_what_the_scheduler_does(seed: int, count: int, parallel: int) -> None:
    chance = Random(seed)
    graph: list[Node] = []
    groups: dict[str, tuple[str, ...]] = {}
    for at in range(count):
        names = [one.id for one in graph]
        depends = chance.sample(names, min(at, chance.choice([0, 0, 1, 2])))
        awaits = [chance.choice(list(groups))] if groups and chance.random() < 0.3 else []
        graph.append(
            node(
                f"t{at}",
                at,
                depends_on=tuple(depends),
                awaits=tuple(awaits),
                estimate_seconds=chance.choice([1.0, 30.0, 700.0]),
                weight=chance.choice([0.25, 1.0, 2.0]),
                phase=chance.randint(0, 1),
                role=chance.choice([None, RoleLimit("r", 1), RoleLimit("s", 2)]),
            )
        )
        if chance.random() < 0.2:
            groups[f"g{at}"] = tuple(chance.sample([*names, f"t{at}"], chance.randint(0, at + 1)))
    strategy = chance.choice([DAGStrategy(), ParallelStrategy(), PipelineStrategy(), BatchStrategy(3)])
    phases = chance.choice([{}, {0: 1}, {0: 2, 1: 1}])
    durations = {one.id: float(chance.randint(1, 9)) for one in graph}
    world = World(
        graph, groups, Settings(parallel, {}, phases, strategy), script=lambda task, *_: ok(durations[task])
    ).run()
    ends = dict(
        zip(
            durations,
            Simulation(graph, groups, parallel, strategy, phases).ends(list(durations.values())),
            strict=True,
        )
    )
    assert ends == {name: at + durations[name] for name, at in zip(world.names, world.starts_at, strict=True)}
