"""Every `parallel` gives the same results, only sooner; every task has exactly one end."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from parallelai.engines.mock import Rule
from parallelai.plan.model import Task
from running import Watcher, came_to, opened, scripted

KINDS = st.sampled_from(["refused", "rejected", "unavailable", "invalid", "internal"])


@st.composite
def plans(draw: st.DrawFn) -> tuple[list[Task], list[Rule]]:
    """A graph of tasks, and what the engines do with some of them."""
    count = draw(st.integers(1, 14))
    rules: list[Rule] = []
    asked: list[Task] = []
    for number in range(count):
        name = f"t{number}"
        depends_on = draw(st.lists(st.integers(0, number - 1), max_size=3, unique=True)) if number else []
        if draw(st.integers(0, 4)) == 0:
            rules.append(Rule(task=name, error=draw(KINDS)))
        when = None
        if depends_on and draw(st.integers(0, 5)) == 0:
            when = f"tasks['t{depends_on[0]}'].outcome == 'ok'"
        asked.append(
            Task(
                id=name,
                description=f"do {name}",
                depends_on=tuple(f"t{n}" for n in depends_on),
                on_failure=draw(st.sampled_from(["skip-dependents", "continue"])),
                when=when,
                engine=draw(st.sampled_from(["m", {"fallback": ["m", "n"]}, {"vote": ["m", "n"]}])),
            )
        )
    return asked, rules


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(plan=plans(), strategy=st.sampled_from(["dag", "parallel", "batch:3"]))
def test_the_same_results_at_every_parallel(plan: tuple[list[Task], list[Rule]], strategy: str) -> None:
    asked, rules = plan

    async def at(parallel: int) -> object:
        with tempfile.TemporaryDirectory() as folder:
            seen = Watcher()
            engines = scripted(*rules), scripted(name="n")
            async with opened(Path(folder), *engines) as ai:
                document = await ai.execute(
                    tasks=asked, parallel=parallel, strategy=strategy, cache=False, on_events=seen
                )
            ends = Counter(event.task for event in seen.of("task.ended"))
            assert ends == Counter(task.id for task in asked)
            assert most_in_flight(seen) <= parallel
            return came_to(document), document.exit

    results = [asyncio.run(at(parallel)) for parallel in (1, 2, 7, 64)]
    assert all(result == results[0] for result in results)


def most_in_flight(seen: Watcher) -> int:
    flying = most = 0
    for event in seen.events:
        flying += (event.type == "attempt.started") - (event.type == "attempt.ended")
        most = max(most, flying)
    return most
