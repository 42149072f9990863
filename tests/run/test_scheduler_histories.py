"""The promises of the scheduler in every history: random graphs, failures, limits and commands.

Hypothesis chooses the size of a history and its seed; the history is then made by `random`, which is much faster
than drawing it piece by piece, so that thousands are tried.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scheduler_world import World, bad, member, ok

from parallelai.engines.protocol import Estimate
from parallelai.records import ErrorRecord, Outcome, Usage
from parallelai.run.scheduling.decisions import Finish, Start
from parallelai.run.scheduling.nodes import Allowance, AttemptResult, Node, Prepared, RoleLimit, Settled
from parallelai.run.scheduling.scheduler import Scheduler
from parallelai.run.scheduling.settings import Settings
from parallelai.run.scheduling.strategies import (
    BatchStrategy,
    DAGStrategy,
    ParallelStrategy,
    PipelineStrategy,
    Strategy,
)

ENGINES = ("a", "b", "c")
KINDS = ("transient", "refused", "rejected", "timed_out", "unavailable", "invalid", "internal")
STEPS = (("perform",), ("perform",), ("perform", "check"), ("prepare", "perform", "check"))
BUDGETS = (Allowance(), Allowance(), Allowance(usd=1.0), Allowance(tokens=60, time=30.0))
OWN_BUDGETS = (None, None, None, Allowance(usd=0.5), Allowance(time=4.0), Allowance(tokens=30))
ROLES = (None, None, RoleLimit("r", 1), RoleLimit("s", 2))
MILD = ("skip-dependents", "continue")
STRATEGIES: tuple[Strategy, ...] = (DAGStrategy(), ParallelStrategy(), BatchStrategy(2), PipelineStrategy())

seeds = st.integers(0, 2**32)
sizes = st.integers(1, 12)


def some_result(chance: Random, *, is_limited: bool) -> AttemptResult:
    seconds = chance.choice([0.0, 1.0, 1.5, 7.0])
    usage = chance.choice([None, Usage(10, 0, 5, 0, 0.3, "client")])
    what = chance.randrange(4 if is_limited else 3)
    if what < 2:
        return ok(seconds, usage)
    if what == 2:
        return bad(chance.choice(KINDS), seconds, usage=usage)
    after = chance.choice([None, 0.0, 3.0, 40.0, 9000.0])
    return bad("rate_limited", seconds, after=after, quota=chance.random() < 0.3)


def some_graph(
    chance: Random, count: int, on_failure: tuple[str, ...] = MILD, *, has_budgets: bool = False
) -> tuple[list[Node], dict[str, tuple[str, ...]]]:
    """Nodes in two phases; some are awaited as groups."""
    made: list[Node] = []
    groups: dict[str, tuple[str, ...]] = {}
    split = chance.randint(0, count)
    for at in range(count):
        names = [node.id for node in made]
        awaits = [chance.choice(list(groups))] if groups and chance.random() < 0.3 else []
        if at >= split > 0:
            groups["phase:0"] = tuple(names[:split])
            awaits.append("phase:0")
        depends = chance.sample(names, min(len(names), chance.choice([0, 0, 1, 1, 2, 3])))
        node = some_node(
            chance, at, tuple(depends), tuple(dict.fromkeys(awaits)), int(at >= split), on_failure
        )
        made.append(replace(node, budget=chance.choice(OWN_BUDGETS)) if has_budgets else node)
        if chance.random() < 0.2:
            names.append(f"t{at}")
            groups[f"g{at}"] = tuple(chance.sample(names, min(len(names), chance.randint(0, 3))))
    return made, groups


def some_node(
    chance: Random,
    at: int,
    depends: tuple[str, ...],
    awaits: tuple[str, ...],
    phase: int,
    on_failure: tuple[str, ...],
) -> Node:
    rule = chance.choice(["one", "one", "fallback", "race", "vote", "spread"])
    names = chance.sample(ENGINES, 1 if rule == "one" else chance.randint(1, 3))
    return Node(
        f"t{at}",
        at,
        depends_on=depends,
        awaits=awaits,
        steps=chance.choice(STEPS),
        rule=rule,
        members=tuple(member(name) for name in names),
        estimate_seconds=chance.choice([1.0, 60.0, 600.0]),
        weight=chance.choice([0.25, 1.0, 2.0]),
        retries=chance.randint(0, 2),
        retry_on=chance.choice([frozenset(), frozenset({"timeout"}), frozenset({"invalid"})]),
        on_failure=chance.choice(on_failure),
        phase=phase,
        role=chance.choice(ROLES),
    )


class Scripted:
    """What each member's n-th attempt at each task gives: drawn once, and good after that.

    `by_task`: of a spread the member does not matter, because which one is taken depends on the load.
    """

    def __init__(self, chance: Random, graph: list[Node], *, is_limited: bool = False) -> None:
        self.table: dict[tuple[str, int], list[AttemptResult]] = {}
        self.spread = {node.id for node in graph if node.rule == "spread"}
        self.used: dict[str, int] = {}
        for node in graph:
            for who in range(1 if node.id in self.spread else len(node.members)):
                self.table[node.id, who] = [some_result(chance, is_limited=is_limited) for _ in range(3)]

    def __call__(self, task: str, who: int, tried: int) -> AttemptResult:
        if task in self.spread:
            who, tried = 0, self.used.get(task, 0)
            self.used[task] = tried + 1
        rows = self.table.get((task, who), [])
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
    world.quota_until.clear()  # somebody asked: its breakers are closed
    for name in world.scheduler.retry(task, world.now):
        world.openings[name] += 1


def add(world: World, task: str) -> None:
    name = f"x{len(world.nodes)}"
    made = Node(name, len(world.nodes), depends_on=(task,), members=(member("a"),))
    world.nodes[name] = made
    world.openings[name] = 1
    world.scheduler.add([made], {name: (name,)}, world.now)


@settings(max_examples=3000, deadline=None)
@given(seeds, sizes)
def test_every_node_ends_exactly_once_whatever_happens(seed: int, count: int) -> None:
    chance = Random(seed)
    graph, groups = some_graph(chance, count, (*MILD, "stop"), has_budgets=True)
    names = [node.id for node in graph]
    world = World(
        graph,
        groups,
        Settings(
            parallel=chance.randint(1, 5),
            concurrency=chance.choice([{}, {"a": 1}, {"a": 2, "b": 1, "c": 1}]),
            phase_parallel=chance.choice([{}, {0: 1}, {0: 3, 1: 2}]),
            strategy=chance.choice(STRATEGIES),
            budget=chance.choice(BUDGETS),
            on_budget=chance.choice(["finish", "cancel"]),
            max_wait_seconds=100.0,
        ),
        Scripted(chance, graph, is_limited=True),
        prepare=prepare_with(frozenset(name for name in names if chance.random() < 0.1)),
        steps={
            (name, "check"): ErrorRecord("check_failed", "red") for name in names if chance.random() < 0.2
        },
        cancel_takes=chance.choice([0.0, 0.5, 100.0]),
        seed=seed,
    )
    for when in sorted(chance.choice([0.0, 0.5, 1.0, 2.0, 5.0, 20.0]) for _ in range(chance.randint(0, 6))):
        command, task = COMMANDS[chance.choice(sorted(COMMANDS))], chance.choice(names)
        world.at.append((when, lambda world, command=command, task=task: command(world, task)))
    world.at.append((1000.0, lambda world: world.scheduler.resume()))
    world.run()
    assert world.finishes == world.openings
    assert sum(world.scheduler.statistics().outcomes.values()) == len(world.nodes)


@settings(max_examples=300, deadline=None)
@given(seeds, sizes)
def test_the_outcomes_are_the_same_at_every_parallel(seed: int, count: int) -> None:
    chance = Random(seed)
    graph, groups = some_graph(chance, count)
    script = Scripted(chance, graph)
    skipped = frozenset(node.id for node in graph if chance.random() < 0.1)
    strategy = chance.choice(STRATEGIES)
    seen = []
    for parallel in (1, 2, 3, 7, 64):
        settings = Settings(parallel, chance.choice([{}, {"a": 1}]), strategy=strategy)
        world = World(graph, groups, settings, script.again(), prepare=prepare_with(skipped), seed=parallel)
        seen.append(world.run().outcomes)
    assert all(outcomes == seen[0] for outcomes in seen)
    assert list(seen[0]) == [node.id for node in graph]


@settings(max_examples=300, deadline=None)
@given(seeds, sizes)
def test_a_provider_that_limits_now_and_then_changes_no_outcome(seed: int, count: int) -> None:
    chance = Random(seed)
    graph, groups = some_graph(chance, count)
    script = Scripted(chance, graph)
    calm = World(graph, groups, Settings(parallel=3), script).run().outcomes
    script.again()
    limits: dict[tuple[str, int], int] = {}

    def limited_now_and_then(task: str, who: int, tried: int) -> AttemptResult:
        if chance.random() < 0.3:
            limits[task, who] = limits.get((task, who), 0) + 1
            return bad("rate_limited", after=chance.choice([None, 2.0]))
        return script(task, who, tried - limits.get((task, who), 0))

    assert World(graph, groups, Settings(parallel=3), limited_now_and_then).run().outcomes == calm


@settings(max_examples=200, deadline=None)
@given(seeds, sizes)
def test_what_settled_before_is_neither_run_nor_told_again(seed: int, count: int) -> None:
    chance = Random(seed)
    graph, groups = some_graph(chance, count)
    whole = World(graph, groups, Settings(parallel=3)).run()
    kept = graph[: chance.randint(0, count)]  # their dependencies are among them
    again = World(graph, groups, Settings(parallel=2))
    for node in chance.sample(kept, len(kept)):
        again.scheduler.settle(node.id, Outcome.OK)
        again.settled[node.id] = Outcome.OK
    again.run()
    assert set(again.finished) == {node.id for node in graph[len(kept) :]}
    assert not set(again.names) & set(again.settled)
    assert {**dict.fromkeys(again.settled, "ok"), **again.outcomes} == whole.outcomes


@pytest.mark.slow
@pytest.mark.parametrize("parallel", [1, 50])
def test_ten_thousand_instant_tasks_all_end(parallel: int) -> None:
    graph = [Node(f"t{at}", at, members=(member("a"),)) for at in range(10_000)]
    settings = Settings(parallel=parallel)
    scheduler = Scheduler(
        graph, {}, settings, prepare=lambda _: Prepared((Estimate(),)), random=Random(0), now=0.0
    )
    flying: deque[Start] = deque()
    ended = 0
    while not scheduler.is_done:
        for decision in scheduler.decide(0.0):
            if isinstance(decision, Start):
                flying.append(decision)
            ended += isinstance(decision, Finish)
        assert len(flying) <= parallel
        if flying:
            start = flying.popleft()
            scheduler.attempt_ended(start.task, start.attempt, ok(0.0), 0.0)
    assert ended == 10_000
