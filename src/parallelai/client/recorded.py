"""What a run writes down of how it was asked for, and reads back when it is resumed."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from parallelai.client.arguments import budget_of, choice_of, severity_of, strategy_of
from parallelai.client.options import CarryOut
from parallelai.client.reviews import ReviewOptions
from parallelai.errors import StoreCorruptError
from parallelai.events import RunCreated
from parallelai.plan.convert import to_data
from parallelai.plan.model import Choice, Plan
from parallelai.run.job import Job
from parallelai.store import Journal


def creation(
    job: Job,
    plan: Plan,
    asked: CarryOut,
    review: ReviewOptions | None,
    notes: tuple[str, ...],
    version: str,
) -> RunCreated:
    """Make a run's first event."""
    options: dict[str, Any] = {
        "engine": _plain(asked.engine),
        "model": asked.model,
        "parallel": asked.parallel,
        "budget": asked.budget.model_dump(mode="json") if asked.budget is not None else None,
        "timeout": asked.timeout_seconds,
        "strategy": asked.strategy.name if asked.strategy is not None else None,
        "variables": dict(asked.variables),
        "only": list(asked.only),
        "is_cacheable": asked.is_cacheable,
        "fail_on": asked.fail_on,
        "chosen": {
            name: list(who.choice.members)
            for name, who in job.assignments.items()
            if who.why.startswith("auto") and who.error is None
        },
        "why": {name: who.why for name, who in job.assignments.items()},
    }
    if review is not None:
        options["review"] = {
            "patterns": list(review.patterns),
            "since": review.since,
            "staged": review.staged,
            "template": review.template,
            "checklist": list(review.checklist),
            "base": review.base,
            "baseline": str(review.baseline) if review.baseline is not None else None,
        }
    return RunCreated(job.kind, job.name, str(job.root), version, to_data(plan), options, notes)


def _plain(choice: Choice | None) -> Any:
    if choice is None:
        return None
    if choice.rule == "one":
        return choice.members[0]
    return {choice.rule: dict(choice.routes) if choice.rule == "route" else list(choice.members)}


def created(journal: Journal, run: str) -> RunCreated:
    """Give a run's first event. Raises `StoreCorruptError` if it is not there."""
    for event in journal.events(run, types={RunCreated.type}):
        if isinstance(event.data, RunCreated):
            return event.data
    raise StoreCorruptError(f"run `{run}` has no beginning", next="run `parallelai doctor --repair`")


def chosen(journal: Journal, run: str) -> dict[str, tuple[str, ...]]:
    """Give the engines that `auto` chose for the run's tasks."""
    recorded = created(journal, run).options.get("chosen", {})
    return {str(name): tuple(members) for name, members in recorded.items()}


def options(created: RunCreated, asked: CarryOut) -> CarryOut:
    """Fill what was not asked anew with what the run was asked for at first."""
    old = created.options
    strategy = old.get("strategy")
    return dataclasses.replace(
        asked,
        engine=asked.engine or choice_of(old.get("engine"))[0],
        model=asked.model or old.get("model"),
        parallel=asked.parallel or old.get("parallel"),
        budget=asked.budget or budget_of(old.get("budget")),
        timeout_seconds=asked.timeout_seconds or old.get("timeout"),
        strategy=asked.strategy or (strategy_of(strategy) if strategy else None),
        variables={**old.get("variables", {}), **asked.variables},
        only=asked.only or tuple(old.get("only", ())),
        is_cacheable=asked.is_cacheable and bool(old.get("is_cacheable", True)),
        fail_on=asked.fail_on or severity_of(old.get("fail_on")),
    )


def review_options(created: RunCreated) -> ReviewOptions:
    """Give what a review was about."""
    old = created.options.get("review", {})
    baseline = old.get("baseline")
    return ReviewOptions(
        tuple(old.get("patterns", ())),
        old.get("since"),
        bool(old.get("staged", False)),
        old.get("template", "code-review"),
        tuple(old.get("checklist", ())),
        Path(baseline) if baseline else None,
        old.get("base", "."),
    )
