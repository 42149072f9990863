"""Strategies: the built-in ones, by name and by class, and one's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scheduler_world import World, bad, member, node, nodes, ok

from parallelai.engines.protocol import Estimate
from parallelai.errors import UsageError
from parallelai.run.scheduling import strategies
from parallelai.run.scheduling.decisions import Start
from parallelai.run.scheduling.nodes import AttemptResult, Node, Prepared
from parallelai.run.scheduling.scheduler import Scheduler
from parallelai.run.scheduling.settings import Settings
from parallelai.run.scheduling.strategies import (
    BatchStrategy,
    DAGStrategy,
    ParallelStrategy,
    PipelineStrategy,
    Place,
    Strategy,
    find,
)


@pytest.mark.parametrize(
    ("text", "strategy"),
    [
        ("dag", DAGStrategy()),
        ("parallel", ParallelStrategy()),
        ("pipeline", PipelineStrategy()),
        ("batch:4", BatchStrategy(4)),
    ],
)
def test_a_strategy_is_found_by_the_name_it_has(text: str, strategy: Strategy) -> None:
    assert find(text) == strategy
    assert find(text).name == text


@pytest.mark.parametrize(
    "text", ["", "dog", "batch", "batch:", "batch:0", "batch:-1", "batch:x", "batch:²", "dag:3", "batch:1e9"]
)
def test_other_names_are_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        find(text)
    assert caught.value.next


def test_parallel_starts_in_plan_order() -> None:
    graph = [node("a", estimate_seconds=1), node("b", 1, estimate_seconds=100, weight=0.1), node("c", 2)]
    assert World(graph, settings=Settings(1, strategy=ParallelStrategy())).run().names == ["a", "b", "c"]


def test_a_batch_starts_together_and_the_next_when_all_have_ended() -> None:
    def script(task: str, *_: int) -> AttemptResult:
        return ok({"a": 1.0, "b": 5.0}.get(task, 2.0))

    world = World(nodes(*"abcde"), settings=Settings(10, strategy=BatchStrategy(2)), script=script).run()
    assert list(zip(world.names, world.starts_at, strict=True)) == [
        ("a", 0.0),
        ("b", 0.0),
        ("c", 5.0),
        ("d", 5.0),
        ("e", 7.0),
    ]
    assert any(wait.why == "batch" for wait in world.waits)


def test_dependencies_hold_in_batches() -> None:
    graph = [node("a"), node("b", 1, depends_on=("a",)), node("c", 2), node("d", 3)]
    world = World(graph, settings=Settings(10, strategy=BatchStrategy(2))).run()
    assert list(zip(world.names, world.starts_at, strict=True)) == [
        ("a", 0.0),
        ("c", 0.0),
        ("b", 1.0),
        ("d", 1.0),
    ]


def test_a_batch_that_ends_without_a_start_makes_way_for_the_next() -> None:
    graph = [*[node(name, at, members=(member("x"),)) for at, name in enumerate("ab")], node("c", 2)]

    def script(task: str, *_: int) -> AttemptResult:
        return bad("rate_limited", quota=True) if task == "a" else ok()

    world = World(graph, settings=Settings(4, strategy=BatchStrategy(1)), script=script).run()
    assert world.outcomes == {"a": "blocked", "b": "blocked", "c": "ok"}


def test_a_batch_larger_than_parallel_is_still_one_batch() -> None:
    world = World(nodes(*"abcd"), settings=Settings(2, strategy=BatchStrategy(3))).run()
    assert world.starts_at == [0.0, 0.0, 1.0, 2.0]


def _scheduler(names: Sequence[str], strategy: Strategy, *, memory_bytes: int | None = None) -> Scheduler:
    settings = Settings(10, strategy=strategy, memory_bytes=memory_bytes)
    takes = Estimate(memory_bytes=600)
    return Scheduler(
        nodes(*names), {}, settings, prepare=lambda _: Prepared((takes,)), random=Random(0), now=0.0
    )


def _starts(scheduler: Scheduler) -> list[str]:
    return [one.task for one in scheduler.decide(0.0) if isinstance(one, Start)]


def test_what_waits_for_others_does_not_keep_the_next_batch_from_starting() -> None:
    scheduler = _scheduler("abcd", BatchStrategy(1))
    assert _starts(scheduler) == ["a"]
    scheduler.park("a", 1, True)
    assert _starts(scheduler) == ["b"]
    scheduler.park("a", 1, False)
    scheduler.attempt_ended("b", 1, ok(), 0.0)
    assert _starts(scheduler) == []  # `a` goes on, and is counted again
    scheduler.attempt_ended("a", 1, ok(), 0.0)
    assert _starts(scheduler) == ["c"]
    scheduler.park("c", 1, True)
    scheduler.attempt_ended("c", 1, ok(), 0.0)  # ended while it waited
    assert _starts(scheduler) == ["d"]
    scheduler.attempt_ended("d", 1, ok(), 0.0)
    scheduler.decide(0.0)
    assert scheduler.is_done


def test_a_batch_waits_for_the_attempts_of_a_race_that_do_not_wait() -> None:
    racing = node("a", members=(member("x"), member("y")), rule="race")
    settings = Settings(10, strategy=BatchStrategy(1))
    made = Prepared((Estimate(), Estimate()))
    scheduler = Scheduler(
        [racing, node("b", 1)], {}, settings, prepare=lambda _: made, random=Random(0), now=0.0
    )
    assert _starts(scheduler) == ["a", "a"]
    scheduler.park("a", 1, True)
    assert _starts(scheduler) == []
    scheduler.attempt_ended("a", 2, bad("refused"), 0.0)
    assert _starts(scheduler) == ["b"]


def test_what_is_waited_for_starts_though_the_memory_is_held_by_what_waits() -> None:
    scheduler = _scheduler("ab", DAGStrategy(), memory_bytes=1000)
    assert _starts(scheduler) == ["a"]
    scheduler.park("a", 1, True)
    assert _starts(scheduler) == ["b"]


@given(
    order=st.permutations("abcdef"),
    waits=st.lists(st.sets(st.integers(0, 5)), min_size=6, max_size=6),
    strategy=st.sampled_from([DAGStrategy(), BatchStrategy(1), BatchStrategy(2), PipelineStrategy()]),
    memory_bytes=st.sampled_from([None, 1000]),
)
def test_a_run_in_which_some_wait_for_others_comes_to_its_end(
    order: list[str], waits: list[set[int]], strategy: Strategy, memory_bytes: int | None
) -> None:
    on = {
        name: {order[at] for at in some if at < mine}
        for mine, (name, some) in enumerate(zip(order, waits, strict=True))
    }
    scheduler = _scheduler("abcdef", strategy, memory_bytes=memory_bytes)
    parked: set[str] = set()
    ended: set[str] = set()
    while not scheduler.is_done:
        started = _starts(scheduler)
        going = [name for name in started if on[name] <= ended]
        for name in set(started).difference(going):
            scheduler.park(name, 1, True)
            parked.add(name)
        free = sorted(name for name in parked if on[name] <= ended)
        for name in free:
            scheduler.park(name, 1, False)
        parked.difference_update(free)
        for name in [*going, *free]:
            scheduler.attempt_ended(name, 1, ok(), 0.0)
        ended.update(going, free)
        assert started or free or scheduler.is_done, f"nothing happens any more: {sorted(parked)} wait"
    assert ended == set("abcdef")


def test_in_a_pipeline_what_has_come_furthest_goes_first() -> None:
    graph = [
        Node(
            f"{stage}{item}",
            at,
            depends_on=(f"{before}{item}",) if before else (),
            members=nodes("x")[0].members,
        )
        for at, (stage, before, item) in enumerate(
            (stage, before, item)
            for stage, before in (("a", ""), ("b", "a"), ("c", "b"))
            for item in range(2)
        )
    ]
    world = World(graph, settings=Settings(1, strategy=PipelineStrategy())).run()
    assert world.names == ["a0", "b0", "c0", "a1", "b1", "c1"]


@dataclass(frozen=True)
class LastFirst:
    name: str = "last-first"
    batch: int | None = None

    def key(self, node: Node, place: Place) -> float:
        return -node.index


def make(argument: str | None) -> Strategy:
    return LastFirst(argument or "last-first")


def broken(argument: str | None) -> Strategy:
    raise AssertionError("not called")


def test_ones_own_strategy_is_an_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [
        EntryPoint("last-first", f"{__name__}:make", strategies.GROUP),
        EntryPoint("gone", "no_such_module_anywhere:make", strategies.GROUP),
    ]
    monkeypatch.setattr(
        "parallelai.extensions.of_group", lambda group: points if group == strategies.GROUP else []
    )
    assert World(nodes(*"abc"), settings=Settings(1, strategy=find("last-first"))).run().names == [
        "c",
        "b",
        "a",
    ]
    assert find("last-first:x").name == "x"
    with pytest.raises(UsageError, match="`gone` cannot be loaded"):
        find("gone")
    with pytest.raises(UsageError) as caught:
        find("dog")
    assert "`last-first`" in str(caught.value.next)


def test_a_batch_holds_at_least_one() -> None:
    with pytest.raises(UsageError):
        BatchStrategy(0)
