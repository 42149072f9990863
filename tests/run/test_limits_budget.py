"""A budget of 1 USD over 1,000 calls priced at 0.01 each, as a user meets it."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from parallelai.client.options import CarryOut
from parallelai.engines.mock import MockEngine, Rule
from parallelai.engines.protocol import Estimate, Port, Request
from parallelai.plan.model import Budget, EngineEntry, Price
from parallelai.records import LimitKey, Outcome, Reply, Usage
from parallelai.run.scheduling.budget import Spending
from parallelai.run.scheduling.nodes import Allowance
from running import FakeEngine, Watcher, opened, project, run_program, tasks, usage

CALLS = 1000
TOKENS = 10_000
PARALLEL = 20
ENTRY = EngineEntry(use="mock", price=Price(input=1.0, output=1.0))
RULE = Rule(usage=Usage(input=TOKENS, cached=0, output=0))  # 0.01 USD at 1 USD for a million tokens
SCRIPT = f"- {{usage: {{input: {TOKENS}, cached: 0, output: 0}}}}\n"
IDS = [f"t{number}" for number in range(CALLS)]


@pytest.mark.parametrize("parallel", [1, 50])
async def test_a_dollar_is_a_hundred_calls_and_two_are_two_hundred(tmp_path: Path, parallel: int) -> None:
    engine, seen = MockEngine("m", ENTRY, script=(RULE,)), Watcher()
    async with opened(tmp_path, engine) as ai:
        document = await ai.execute(
            tasks=tasks(*IDS), engine="m", budget="1usd", parallel=parallel, cache=False, on_events=seen
        )
        assert document.usage.usd == pytest.approx(1.0)
        assert (document.exit, document.outcome) == (5, Outcome.OVER_BUDGET)
        assert document.counts[Outcome.OK] == len(engine.calls) == 100
        assert document.counts[Outcome.OVER_BUDGET] == CALLS - 100
        assert [event.data.what for event in seen.of("budget.reached")] == ["usd"]
        more = await ai.runs.resume(document.run, CarryOut(budget=Budget(usd=2)))
        assert more is not None
        assert more.usage.usd == pytest.approx(2.0)
        assert (more.exit, more.counts[Outcome.OK]) == (5, 200)
        assert len(engine.calls) == 200  # no call was made again
        rest = await ai.runs.resume(document.run, CarryOut(budget=Budget(usd=10)))
        assert rest is not None
        assert (rest.exit, rest.counts[Outcome.OK], len(engine.calls)) == (0, CALLS, CALLS)


@pytest.mark.parametrize("seed", range(3))
async def test_calls_that_cost_other_than_estimated_pass_it_by_what_was_in_flight_at_most(
    tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    costs = {name: chance.choice([0.002, 0.01, 0.03]) for name in IDS}

    async def answer(request: Request, port: Port) -> Reply:
        permit = await port.permit(LimitKey("fake"), TOKENS)
        await permit.settle()
        return Reply(text="x", usage=usage(TOKENS, costs[request.task]))

    engine = FakeEngine(answer=answer, estimate=Estimate(tokens=TOKENS, usd=0.01))
    async with opened(tmp_path, engine) as ai:
        document = await ai.execute(tasks=tasks(*IDS), engine="fake", budget="1usd", parallel=PARALLEL)
    assert document.exit == 5
    assert document.usage.usd is not None
    assert 0.9 <= document.usage.usd <= 1.0 + PARALLEL * max(costs.values())


def test_the_same_on_the_command_line(tmp_path: Path) -> None:
    entry = {"use": "mock", "price": {"input": 1.0, "output": 1.0}, "args": ["script.yaml"]}
    plan = {
        "engines": {"m": entry},
        "defaults": {"engine": "m"},
        "tasks": [{"id": name, "description": f"do {name}"} for name in IDS],
    }
    root = project(tmp_path, {"plan.json": json.dumps(plan), "script.yaml": SCRIPT})
    first = run_program(root, "execute", "plan.json", "--budget", "1usd", "--no-cache", "--json")
    assert first.returncode == 5
    assert Counter(task["status"] for task in json.loads(first.stdout)["tasks"])["ok"] == 100
    again = run_program(root, "runs", "resume", "--budget", "2usd", "--json")
    assert again.returncode == 5
    document = json.loads(again.stdout)
    assert document["counts"]["ok"] == 200
    assert document["usage"]["usd"] == pytest.approx(2.0)


def test_sums_of_cents_are_no_reason_to_stop() -> None:
    """A hundred times 0.01 is more than 1.0 in binary fractions."""
    spending = Spending(Allowance(usd=1.0), Allowance(), 0.0)
    key, estimate = LimitKey("m"), Estimate(10, 0.01)
    for _ in range(100):
        wanted = spending.expect(key, estimate)
        assert spending.fits(wanted)
        spending.reserve(wanted)
        spending.settle(key, wanted, estimate, usage(10, 0.01))
    assert not spending.fits(spending.expect(key, estimate))
