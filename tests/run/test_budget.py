"""Budgets: reserve, start, settle; warned at 80 %, and reached when nothing more fits."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scheduler_world import World, bad, member, node, nodes, ok

from parallelai.engines.protocol import Estimate
from parallelai.events import BudgetChanged, BudgetReached, BudgetWarned
from parallelai.records import FREE, LimitKey, Usage
from parallelai.run.scheduling.budget import Reservation, Spending
from parallelai.run.scheduling.decisions import Start
from parallelai.run.scheduling.nodes import Allowance, AttemptResult, Node, Prepared
from parallelai.run.scheduling.settings import Settings

KEY = LimitKey("mock")


def cost(usd: float, tokens: int = 0) -> Usage:
    return Usage(tokens, 0, 0, 0, usd, "client")


def run(
    graph: list[Node], budget: Allowance, usage: Usage, estimate: Estimate, seconds: float = 1.0, **more: Any
) -> World:
    limits = Settings(more.pop("parallel", 1), budget=budget, **more)
    return World(graph, settings=limits, script=lambda *_: ok(seconds, usage), estimates=estimate).run()


def test_a_money_limit_stops_new_starts_and_keeps_what_is_done() -> None:
    world = run(nodes(*"abcde"), Allowance(usd=1.0), cost(0.4), Estimate(0, 0.4))
    assert list(world.outcomes.values()) == ["ok", "ok", "over_budget", "over_budget", "over_budget"]
    assert len(world.started) == 2
    assert [one.what for one in world.of(BudgetReached)] == ["usd"]


def test_a_limit_that_is_just_met_is_not_reached() -> None:
    world = run(nodes(*"abcd"), Allowance(tokens=40), cost(0.0, 10), Estimate(10, 0.0))
    assert set(world.outcomes.values()) == {"ok"}
    assert not world.of(BudgetReached)
    assert [one.what for one in world.of(BudgetWarned)] == ["tokens"]


def test_a_reservation_that_does_not_fit_waits_while_others_are_in_flight() -> None:
    world = run(nodes(*"abcd"), Allowance(usd=1.0), cost(0.1), Estimate(0, 0.6), parallel=4)
    assert set(world.outcomes.values()) == {"ok"}
    assert world.highest < 4
    assert any(wait.why == "budget" for wait in world.waits)


def test_estimates_follow_what_calls_really_took() -> None:
    world = run(nodes(*"abcdefghij"), Allowance(usd=1.0), cost(0.1), Estimate(0, 1.0), parallel=10)
    assert set(world.outcomes.values()) == {"ok"}, (
        "the first call shows that estimates were ten times too high"
    )
    low = run(nodes(*"abcdefghij"), Allowance(usd=1.0), cost(0.5), Estimate(0, 0.01))
    assert list(low.outcomes.values()).count("ok") == 2, "and here they were too low"


def test_failed_attempts_cost_too() -> None:
    def script(task: str, who: int, tried: int) -> AttemptResult:
        return bad("transient", usage=cost(0.5))

    limits = Settings(1, budget=Allowance(usd=1.0))
    world = World(nodes("a", "b", retries=9), None, limits, script, estimates=Estimate(0, 0.5)).run()
    assert len(world.started) == 2
    assert world.outcomes == {"a": "over_budget", "b": "over_budget"}


def test_what_is_free_goes_on_when_the_money_is_spent() -> None:
    graph = [*nodes("a", "b", "c"), node("free", 3, members=(member("ruff"),))]

    def prepare(task: str) -> Prepared:
        return Prepared((Estimate() if task == "free" else Estimate(0, 1.0),))

    limits = Settings(1, budget=Allowance(usd=1.0))
    script = {"free": ok(1.0, FREE)}
    world = World(
        graph, None, limits, lambda task, *_: script.get(task, ok(1.0, cost(1.0))), prepare=prepare
    ).run()
    assert world.outcomes == {"a": "ok", "b": "over_budget", "c": "over_budget", "free": "ok"}


def test_an_unknown_price_is_counted_as_unknown_and_never_as_nothing_spent() -> None:
    usage = Usage(10, 0, 5, 0, None, "unknown")
    world = run(nodes("a", "b"), Allowance(usd=1.0), usage, Estimate(15, None))
    assert world.outcomes == {"a": "ok", "b": "ok"}
    assert world.scheduler.statistics().unpriced == 2
    by_tokens = run(nodes("a", "b", "c"), Allowance(usd=1.0, tokens=20), usage, Estimate(None, None))
    assert list(by_tokens.outcomes.values()) == ["ok", "over_budget", "over_budget"]


def test_a_subscription_costs_no_money_but_tokens() -> None:
    usage = Usage(10, 0, 5, 0, None, "subscription")
    world = run(nodes("a", "b", "c"), Allowance(usd=0.01, tokens=30), usage, Estimate(15, 0.0))
    assert list(world.outcomes.values()) == ["ok", "ok", "over_budget"]
    assert world.scheduler.statistics().unpriced == 0


def test_what_earlier_processes_spent_counts() -> None:
    world = run(nodes("a", "b"), Allowance(usd=1.0), cost(0.4), Estimate(0, 0.4), spent=Allowance(usd=0.5))
    assert world.outcomes == {"a": "ok", "b": "over_budget"}


def test_the_time_limit_stops_new_starts_and_lets_end_what_runs() -> None:
    world = run(nodes(*"abc"), Allowance(time=10.0), FREE, Estimate(), seconds=6.0)
    assert world.outcomes == {"a": "ok", "b": "ok", "c": "over_budget"}
    assert [one.what for one in world.of(BudgetReached)] == ["time"]
    assert [round(one.used) for one in world.of(BudgetWarned)] == [8]


def test_a_time_limit_that_kept_nothing_from_starting_is_not_reached() -> None:
    world = run(nodes("a"), Allowance(time=5.0), FREE, Estimate(), seconds=6.0)
    assert world.outcomes == {"a": "ok"}
    assert not world.of(BudgetReached)


def test_on_budget_cancel_cancels_what_is_in_flight() -> None:
    world = run(nodes("a", "b"), Allowance(time=5.0), FREE, Estimate(), 60.0, parallel=2, on_budget="cancel")
    assert set(world.outcomes.values()) == {"over_budget"}
    assert {one.task for one in world.cancelled} == {"a", "b"}
    assert world.now == 5.5


def test_on_budget_cancel_acts_as_soon_as_the_money_is_spent() -> None:
    def script(task: str, *_: int) -> AttemptResult:
        return ok(1.0, cost(2.0)) if task == "a" else ok(60.0)

    limits = Settings(2, budget=Allowance(usd=1.0), on_budget="cancel")
    world = World(nodes("a", "b"), None, limits, script, estimates=Estimate(0, 0.1)).run()
    assert world.outcomes == {"a": "ok", "b": "over_budget"}
    assert world.now == 1.5


def test_more_budget_lets_the_rest_go_on() -> None:
    limits = Settings(1, budget=Allowance(usd=1.0))
    world = World(nodes("a", "b"), None, limits, lambda *_: ok(1.0, cost(1.0)), estimates=Estimate(0, 1.0))
    world.at.append((0.5, lambda world: world.scheduler.set_budget(Allowance(usd=5.0))))
    assert world.run().outcomes == {"a": "ok", "b": "ok"}
    assert world.of(BudgetChanged) == [BudgetChanged(5.0, None, None)]


def test_what_ended_over_budget_can_be_opened_again() -> None:
    limits = Settings(1, budget=Allowance(usd=1.0))
    graph = [*nodes("a", "b"), node("long", 2, members=(member("ruff"),))]

    def prepare(task: str) -> Prepared:
        return Prepared((Estimate() if task == "long" else Estimate(0, 0.8),))

    world = World(
        graph, None, limits, lambda task, *_: ok(1.0, FREE if task == "long" else cost(0.8)), prepare=prepare
    )
    while "b" not in world.outcomes:
        world.decide()
        if world.heap and not world.scheduler.is_done:
            world.now = world.heap[0][0]
            world.land()
    assert world.outcomes["b"] == "over_budget"
    world.scheduler.set_budget(Allowance(usd=2.0))
    assert world.scheduler.retry("b", world.now) == ("b",)
    world.openings["b"] += 1
    assert world.run().outcomes == {"a": "ok", "b": "ok", "long": "ok"}


@pytest.mark.parametrize(
    ("own", "starts"),
    [(Allowance(usd=0.5), 2), (Allowance(tokens=20), 2), (Allowance(time=2.0), 2), (Allowance(), 4)],
)
def test_a_tasks_own_budget_ends_its_attempts(own: Allowance, starts: int) -> None:
    graph = [node("a", budget=own, retries=3), node("b", 1, depends_on=("a",))]

    def script(task: str, *_: int) -> AttemptResult:
        return bad("transient", usage=cost(0.25, 10)) if task == "a" else ok()

    world = World(graph, None, Settings(1), script, estimates=Estimate(10, 0.25)).run()
    assert len(world.started) == starts
    assert world.outcomes == {"a": "failed" if starts == 4 else "over_budget", "b": "skipped"}


amounts = st.floats(0.0, 3.0).map(lambda value: round(value, 3))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(amounts, amounts), min_size=1, max_size=15),
    st.floats(0.1, 10.0),
    st.integers(1, 8),
)
def test_the_overshoot_is_bounded_by_what_was_under_reserved(
    calls: list[tuple[float, float]], limit: float, parallel: int
) -> None:
    graph = [
        node(f"t{at}", at, members=(member(f"e{at}"),)) for at in range(len(calls))
    ]  # nothing is learned
    estimates = {f"t{at}": Estimate(0, pair[0]) for at, pair in enumerate(calls)}
    took = {f"t{at}": pair[1] for at, pair in enumerate(calls)}
    world = World(
        graph,
        None,
        Settings(parallel, budget=Allowance(usd=limit)),
        lambda task, *_: ok(1.0, cost(took[task])),
        prepare=lambda task: Prepared((estimates[task],)),
    ).run()
    under = sum(max(0.0, took[one.task] - (estimates[one.task].usd or 0.0)) for one in world.started)
    assert sum(took[one.task] for one in world.started) <= limit + under + 1e-6
    assert world.scheduler.statistics().reserved_usd == 0.0


@given(st.lists(st.tuples(amounts, amounts), max_size=20))
def test_what_is_settled_is_what_was_spent(calls: list[tuple[float, float]]) -> None:
    spending = Spending(Allowance(usd=100.0), Allowance(usd=1.0), 0.0)
    for estimate, took in calls:
        wanted = spending.expect(KEY, Estimate(0, estimate))
        spending.reserve(wanted)
        spending.settle(KEY, wanted, Estimate(0, estimate), cost(took))
    assert spending.usd == pytest.approx(1.0 + sum(took for _, took in calls))
    assert spending.reserved_usd == 0.0


def test_each_limit_warns_once_and_afresh_when_it_changes() -> None:
    spending = Spending(Allowance(usd=1.0), Allowance(), 0.0)
    spending.reserve(Reservation(0.85, 0, False))
    assert [one.what for one in spending.warnings(0.0)] == ["usd"]
    assert spending.warnings(0.0) == []
    spending.set_limits(Allowance(usd=1.05))
    assert [one.limit for one in spending.warnings(0.0)] == [1.05]


def test_a_budget_without_limits_costs_no_reservations() -> None:
    world = World(nodes("a"))
    assert isinstance(world.scheduler.decide(0.0)[0], Start)
    assert world.scheduler.statistics().reserved_usd == 0.0
