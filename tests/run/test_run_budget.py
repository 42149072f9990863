"""Budgets hold, say so, and are lifted by resuming with a larger one."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from parallelai.client.options import CarryOut
from parallelai.engines.mock import MockEngine, Rule
from parallelai.engines.protocol import Estimate, Port, Request
from parallelai.errors import Transient, UsageError
from parallelai.plan.model import Budget, EngineEntry, Price, Task
from parallelai.records import Outcome, Reply, RunDocument, Usage
from running import FakeEngine, Watcher, opened, project, scripted, statuses, tasks, usage

MILLION = 1_000_000


def priced(*rules: Rule) -> MockEngine:
    """A mock at 1 USD for a million tokens in."""
    entry = EngineEntry(use="mock", price=Price(input=1.0, output=1.0))
    return MockEngine("m", entry, script=rules)


def spent(document: RunDocument) -> float:
    return sum((task.usage.usd or 0.0) for task in document.tasks if task.usage is not None)


@pytest.mark.parametrize("parallel", [1, 3, 8])
async def test_money_is_never_passed_by_more_than_what_is_in_flight(tmp_path: Path, parallel: int) -> None:
    engine = priced(Rule(usage=Usage(input=MILLION, cached=0, output=0)))
    asked = tasks(*(f"t{n}" for n in range(20)))
    seen = Watcher()
    async with opened(tmp_path, engine) as ai:
        document = await ai.execute(
            tasks=asked, engine="m", budget="5usd", parallel=parallel, cache=False, on_events=seen
        )
        assert spent(document) == 5.0
        assert document.exit == 5
        assert document.outcome is Outcome.OVER_BUDGET
        assert document.counts[Outcome.OK] == 5
        assert document.counts[Outcome.OVER_BUDGET] == 15
        warned, reached = seen.of("budget.warned"), seen.of("budget.reached")
        assert [event.data.what for event in (*warned, *reached)] == ["usd", "usd"]
        resumed = await ai.runs.resume(document.run, CarryOut(budget=Budget(usd=8)))
        assert resumed is not None
        assert (resumed.exit, resumed.counts[Outcome.OK]) == (5, 8), (
            "the budget is the run's, not the process's"
        )
        resumed = await ai.runs.resume(document.run, CarryOut(budget=Budget(usd=100)))
        assert resumed is not None
        assert (resumed.exit, resumed.counts[Outcome.OK]) == (0, 20)
        assert len(engine.calls) == 20
        kept = await ai.runs.resume(document.run)
        assert kept is not None
        assert kept.exit == 0


@pytest.mark.parametrize("parallel", [1, 5])
async def test_wrong_estimates_are_passed_by_reservations_at_most(tmp_path: Path, parallel: int) -> None:
    """Costs vary; overshoot stays below what was in flight when the limit was met."""
    chance = random.Random(parallel)
    costs = [chance.randrange(1, 30) * 100_000 for _ in range(40)]
    flying = 0
    most_flying = 0

    async def answer(request: Request, port: Port) -> Reply:
        nonlocal flying, most_flying
        cost = costs[int(request.task[1:])]
        flying += 1
        most_flying = max(flying, most_flying)
        for _ in range(chance.randrange(5)):
            await asyncio.sleep(0)
        flying -= 1
        return Reply(text="x", usage=usage(cost, cost / MILLION))

    engine = FakeEngine(answer=answer, estimate=Estimate(tokens=1_500_000, usd=1.5))
    async with opened(tmp_path, engine) as ai:
        document = await ai.execute(
            tasks=tasks(*(f"t{n}" for n in range(40))), engine=engine, budget="10usd", parallel=parallel
        )
    assert document.exit == 5
    assert spent(document) <= 10 + most_flying * 3.0
    assert spent(document) >= 7


async def test_failed_attempts_are_paid_for_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "parallelai.run.scheduling.attempts.backoff_seconds", lambda retry, random, asked=None: 0.0
    )
    calls = 0

    async def answer(request: Request, port: Port) -> Reply:
        nonlocal calls
        from parallelai.engines.protocol import UsageEvent

        calls += 1
        await port.emit(UsageEvent(usage(MILLION, 1.0)))
        raise Transient("503")

    engine = FakeEngine(answer=answer, estimate=Estimate(tokens=MILLION, usd=1.0))
    async with opened(tmp_path, engine) as ai:
        document = await ai.execute(
            tasks=tasks("a", "b", retries=2), engine=engine, budget="4usd", parallel=1
        )
    assert calls == 4
    assert document.exit == 5
    assert document.usage.usd == 4.0


async def test_tokens_are_limited(tmp_path: Path) -> None:
    engine = scripted(Rule(usage=Usage(input=900, cached=0, output=100)))
    async with opened(tmp_path, engine) as ai:
        document = await ai.execute(
            tasks=tasks(*"abcdef"), engine="m", budget="3500tok", parallel=2, cache=False
        )
    assert document.counts[Outcome.OK] == 3
    assert document.exit == 5


async def test_what_is_free_costs_nothing(tmp_path: Path) -> None:
    engine = scripted(Rule(usage=Usage(input=MILLION, cached=0, output=0)))
    async with opened(tmp_path, engine) as ai:
        document = await ai.execute(tasks=tasks(*"abc"), engine="m", budget="0.01usd", cache=False)
    assert document.exit == 0


async def test_time_ends_what_has_not_begun(tmp_path: Path) -> None:
    engine = scripted(Rule(latency=0.25))
    async with opened(tmp_path, engine) as ai:
        document = await ai.execute(
            tasks=tasks(*"abcd"), engine="m", budget={"time": 0.1}, parallel=1, cache=False
        )
    assert document.exit == 5
    assert document.counts[Outcome.OK] == 1, "what was in flight was finished"


async def test_on_budget_cancel_ends_what_is_in_flight(tmp_path: Path) -> None:
    engine = scripted(Rule(hang=True))
    plan = {
        "limits": {"on_budget": "cancel", "budget": {"time": 0.1}},
        "tasks": [{"id": "a", "description": "x"}],
    }
    async with opened(tmp_path, engine) as ai:
        document = await ai.execute(plan, engine="m")
    assert statuses(document) == {"a": "over_budget"}
    assert document.exit == 5


async def test_a_task_s_own_budget_is_its_own(tmp_path: Path) -> None:
    engine = priced(Rule(task="a", usage=Usage(input=MILLION, cached=0, output=0)))
    asked = [
        Task(id="a", description="x", budget=Budget(usd=0.5)),
        Task(id="b", description="x"),
    ]
    async with opened(tmp_path, engine) as ai:
        document = await ai.execute(tasks=asked, engine="m", budget="10usd", cache=False)
    assert statuses(document) == {"a": "over_budget", "b": "ok"}


async def test_an_unknown_price_and_a_money_budget_do_not_go_together(tmp_path: Path) -> None:
    engine = FakeEngine(estimate=Estimate(tokens=None, usd=None))
    project(tmp_path)
    async with opened(tmp_path, engine) as ai:
        with pytest.raises(UsageError, match="unknown"):
            await ai.execute(tasks=tasks("a"), engine=engine, budget="1usd")
        assert ai.runs.list() == (), "and no run was begun"
        plan = {"limits": {"unpriced": "allow"}, "tasks": [{"id": "a", "description": "x"}]}
        assert (await ai.execute(plan, engine=engine, budget="1usd")).exit == 0
        assert (await ai.execute(tasks=tasks("a"), engine=engine)).exit == 0, "nobody wrote a limit"


async def test_what_a_run_spent_is_not_forgotten_where_a_part_is_unknown(tmp_path: Path) -> None:
    """One attempt of unknown cost must not make a resumed run believe that nothing was spent."""

    async def answer(request: Request, port: Port) -> Reply:
        return Reply(text="x", usage=Usage() if request.task == "a" else usage(MILLION, 1.0))

    engine = FakeEngine(answer=answer, estimate=Estimate(tokens=MILLION, usd=1.0))
    async with opened(tmp_path, engine) as ai:
        first = await ai.execute(tasks=tasks(*"abcde"), engine=engine, budget="2.5usd", parallel=1)
        assert first.exit == 5
        before = len(engine.tasks)
        again = await ai.runs.resume(first.run)
    assert again is not None
    assert again.exit == 5
    assert len(engine.tasks) == before
