"""The promises of the scheduler in every history: random graphs, failures, limits and commands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scheduler_world import World, bad, member, ok

from parallelai.engines.protocol import Estimate
from parallelai.records import ErrorRecord, Outcome, Usage
from parallelai.run.nodes import Allowance, AttemptResult, Node, Prepared, Settings, Settled
from parallelai.run.strategies import BatchStrategy, DAGStrategy, ParallelStrategy, PipelineStrategy, Strategy

ENGINES = ("a", "b", "c")
KINDS = (
    "transient",
    "refused",
    "rejected",
    "timed_out",
    "unavailable",
    "invalid",
    "internal",
    "check_failed",
)


def results(*, is_limited: bool) -> st.SearchStrategy[AttemptResult]:
    seconds = st.sampled_from([0.0, 1.0, 1.5, 7.0])
    usage = st.sampled_from([None, Usage(10, 0, 5, 0, 0.3, "client")])
    good = st.builds(ok, seconds, usage)
    failed = st.builds(bad, st.sampled_from(KINDS), seconds, usage=usage)
    if not is_limited:
        return st.one_of(good, good, failed)
    limited = st.builds(
        bad,
        st.just("rate_limited"),
        seconds,
        after=st.sampled_from([None, 0.0, 3.0, 40.0, 9000.0]),
        quota=st.booleans(),
    )
    return st.one_of(good, good, failed, limited)


@st.composite
def graphs(
    draw: Any, *, on_failure: tuple[str, ...] = ("skip-dependents", "continue")
) -> tuple[list[Node], dict]:
    """Up to twelve nodes in two phases; some are awaited as groups."""
    made: list[Node] = []
    count = draw(st.integers(1, 12))
    groups: dict[str, tuple[str, ...]] = {}
    split = draw(st.integers(0, count))
    for at in range(count):
        before = [node.id for node in made if at < split or node.index >= split]
        depends = draw(st.lists(st.sampled_from(before), max_size=3, unique=True)) if before else []
        awaits = [name for name in groups if draw(st.booleans())][:1]
        if at >= split > 0:
            awaits.append("phase:0")
            groups["phase:0"] = tuple(node.id for node in made if node.index < split)
        made.append(draw(some_node(at, tuple(depends), tuple(awaits), int(at >= split), on_failure)))
        if draw(st.integers(0, 4)) == 0:
            groups[f"g{at}"] = tuple(
                draw(st.lists(st.sampled_from([n.id for n in made]), max_size=3, unique=True))
            )
    return made, groups


@st.composite
def some_node(
    draw: Any,
    at: int,
    depends: tuple[str, ...],
    awaits: tuple[str, ...],
    phase: int,
    on_failure: tuple[str, ...],
) -> Node:
    rule = draw(st.sampled_from(["one", "one", "fallback", "race", "vote", "spread"]))
    names = draw(st.permutations(ENGINES))[: 1 if rule == "one" else draw(st.integers(1, 3))]
    return Node(
        f"t{at}",
        at,
        depends_on=depends,
        awaits=awaits,
        steps=draw(
            st.sampled_from(
                [("perform",), ("perform",), ("perform", "check"), ("prepare", "perform", "check")]
            )
        ),
        rule=rule,
        members=tuple(member(name) for name in names),
        estimate_seconds=draw(st.sampled_from([1.0, 60.0, 600.0])),
        weight=draw(st.sampled_from([0.25, 1.0, 2.0])),
        retries=draw(st.integers(0, 2)),
        retry_on=draw(
            st.sampled_from([frozenset(), frozenset({"timeout"}), frozenset({"invalid", "refused"})])
        ),
        on_failure=draw(st.sampled_from(on_failure)),
        phase=phase,
    )


STRATEGIES: st.SearchStrategy[Strategy] = st.sampled_from(
    [DAGStrategy(), ParallelStrategy(), BatchStrategy(2), PipelineStrategy()]
)


class Scripted:
    """What each member's n-th attempt at each task gives: drawn once, and good after that.

    `by_task`: of a spread the member does not matter, because which one is taken depends on the load.
    """

    def __init__(self, draw: Callable[[], AttemptResult], graph: list[Node]) -> None:
        self.table: dict[tuple[str, int], list[AttemptResult]] = {}
        self.spread = {node.id for node in graph if node.rule == "spread"}
        self.used: dict[str, int] = {}
        for node in graph:
            for who in range(1 if node.id in self.spread else len(node.members)):
                self.table[node.id, who] = [draw() for _ in range(3)]

    def __call__(self, task: str, who: int, tried: int) -> AttemptResult:
        if task in self.spread:
            who, tried = 0, self.used.get(task, 0)
            self.used[task] = tried + 1
        rows = self.table[task, who]
        return rows[tried] if tried < len(rows) else ok()

    def again(self) -> Scripted:
        self.used.clear()
        return self


def prepare_with(skipped: frozenset[str]) -> Callable[[str], Prepared | Settled]:
    def prepare(task: str) -> Prepared | Settled:
        if task in skipped:
            return Settled(Outcome.SKIPPED, None, "`when`")
        return Prepared((Estimate(20, 0.2),) * 3)

    return prepare


COMMANDS: dict[str, Callable[[World, str], Any]] = {
    "pause": lambda world, task: world.scheduler.pause(),
    "resume": lambda world, task: world.scheduler.resume(),
    "cancel": lambda world, task: world.scheduler.cancel(task),
    "cancel all": lambda world, task: world.scheduler.cancel(None),
    "stop": lambda world, task: world.scheduler.stop("asked"),
    "more": lambda world, task: set_parallel(world, 6),
    "less": lambda world, task: set_parallel(world, 1),
    "money": lambda world, task: world.scheduler.set_budget(Allowance(usd=50.0)),
    "retry": lambda world, task: retry(world, task),
    "add": lambda world, task: add(world, task),
}


def set_parallel(world: World, parallel: int) -> None:
    world.scheduler.set_parallel(parallel)
    world.parallel = max(parallel, len(world.flying))  # what is in flight beyond it goes on


def retry(world: World, task: str) -> None:
    for name in world.scheduler.retry(task, world.now):
        world.openings[name] += 1
        assert world.finishes[name] == world.openings[name] - 1


def add(world: World, task: str) -> None:
    name = f"x{len(world.nodes)}"
    made = Node(name, len(world.nodes), depends_on=(task,), members=(member("a"),))
    world.nodes[name] = made
    world.openings[name] = 1
    world.scheduler.add([made], {name: (name,)}, world.now)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_every_node_ends_exactly_once_whatever_happens(data: st.DataObject) -> None:
    graph, groups = data.draw(graphs(on_failure=("skip-dependents", "continue", "stop")))
    script = Scripted(lambda: data.draw(results(is_limited=True)), graph)
    names = [node.id for node in graph]
    steps = {
        (name, "check"): ErrorRecord("check_failed", "red")
        for name in names
        if data.draw(st.integers(0, 5)) == 0
    }
    budget = data.draw(
        st.sampled_from([Allowance(), Allowance(), Allowance(usd=1.0), Allowance(tokens=60, time=30.0)])
    )
    world = World(
        graph,
        groups,
        Settings(
            parallel=data.draw(st.integers(1, 5)),
            concurrency=data.draw(st.sampled_from([{}, {"a": 1}, {"a": 2, "b": 1, "c": 1}])),
            phase_parallel=data.draw(st.sampled_from([{}, {0: 1}, {0: 3, 1: 2}])),
            strategy=data.draw(STRATEGIES),
            budget=budget,
            on_budget=data.draw(st.sampled_from(["finish", "cancel"])),
            max_wait_seconds=100.0,
        ),
        script,
        prepare=prepare_with(frozenset(name for name in names if data.draw(st.integers(0, 7)) == 0)),
        steps=steps,
        cancel_takes=data.draw(st.sampled_from([0.0, 0.5, 100.0])),
        seed=data.draw(st.integers(0, 5)),
    )
    times = sorted(data.draw(st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0, 5.0, 20.0]), max_size=5)))
    for when in times:
        command = COMMANDS[data.draw(st.sampled_from(sorted(COMMANDS)))]
        task = data.draw(st.sampled_from(names))
        world.at.append((when, lambda world, command=command, task=task: command(world, task)))
    world.at.append((1000.0, lambda world: world.scheduler.resume()))
    world.run()
    assert world.finishes == world.openings
    assert sum(world.scheduler.statistics().outcomes.values()) == len(world.nodes)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_the_outcomes_are_the_same_at_every_parallel(data: st.DataObject) -> None:
    graph, groups = data.draw(graphs())
    script = Scripted(lambda: data.draw(results(is_limited=False)), graph)
    strategy = data.draw(STRATEGIES)
    skipped = frozenset(node.id for node in graph if data.draw(st.integers(0, 7)) == 0)
    seen = []
    for parallel in (1, 2, 3, 7, 64):
        world = World(
            graph,
            groups,
            Settings(
                parallel=parallel, strategy=strategy, concurrency=data.draw(st.sampled_from([{}, {"a": 1}]))
            ),
            script.again(),
            prepare=prepare_with(skipped),
            seed=parallel,
        )
        seen.append(world.run().outcomes)
    assert all(outcomes == seen[0] for outcomes in seen)
    assert list(seen[0]) == [node.id for node in graph]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_provider_that_limits_now_and_then_changes_no_outcome(data: st.DataObject) -> None:
    graph, groups = data.draw(graphs())
    script = Scripted(lambda: data.draw(results(is_limited=False)), graph)
    calm = World(graph, groups, Settings(parallel=3), script).run().outcomes
    script.again()
    turns = data.draw(st.integers(2, 5))
    calls = 0
    limits: dict[tuple[str, int], int] = {}

    def limited_now_and_then(task: str, who: int, tried: int) -> AttemptResult:
        nonlocal calls
        calls += 1
        if calls % turns == 0:
            limits[task, who] = limits.get((task, who), 0) + 1
            return bad("rate_limited", after=data.draw(st.sampled_from([None, 2.0])))
        return script(task, who, tried - limits.get((task, who), 0))

    assert World(graph, groups, Settings(parallel=3), limited_now_and_then).run().outcomes == calm


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_what_settled_before_is_neither_run_nor_told_again(data: st.DataObject) -> None:
    graph, groups = data.draw(graphs())
    whole = World(graph, groups, Settings(parallel=3)).run()
    count = data.draw(st.integers(0, len(graph)))
    again = World(graph, groups, Settings(parallel=2))
    for node in data.draw(
        st.permutations(graph[:count])
    ):  # dependencies come before, so all of them are kept
        again.scheduler.settle(node.id, Outcome.OK)
        again.settled[node.id] = Outcome.OK
    again.run()
    assert set(again.finished) == {node.id for node in graph[count:]}
    assert not {start.task for start in again.started} & {node.id for node in graph[:count]}
    assert {**dict.fromkeys(again.settled, "ok"), **again.outcomes} == whole.outcomes


@pytest.mark.slow
@pytest.mark.parametrize("parallel", [1, 50])
def test_ten_thousand_instant_tasks_all_end(parallel: int) -> None:
    graph = [Node(f"t{at}", at, members=(member("a"),)) for at in range(10_000)]
    world = World(graph, {}, Settings(parallel=parallel), lambda *_: ok(0.0))
    world.run(longest=100_000)
    assert set(world.outcomes.values()) == {"ok"}
    assert world.highest == parallel
