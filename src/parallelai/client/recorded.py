"""What a run writes down of how it was asked for, and reads back when it is resumed."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from parallelai.client.arguments import budget_of, choice_of, severity_of, strategy_of
from parallelai.client.destinations import addresses
from parallelai.client.options import CarryOut
from parallelai.client.reviews import ReviewOptions
from parallelai.errors import BusyError, ParallelAIError, StoreCorruptError, UsageError
from parallelai.events import (
    AttemptEnded,
    AttemptStarted,
    BudgetChanged,
    EnginesTaken,
    EventData,
    RunCreated,
    RunStarted,
    RunStopping,
    Taken,
    TaskEnded,
)
from parallelai.plan import load
from parallelai.plan.check import Names
from parallelai.plan.convert import to_data
from parallelai.plan.model import Budget, Choice, EngineEntry, Plan
from parallelai.run import resume
from parallelai.run.job import Assignment, Job
from parallelai.run.masking import is_secret
from parallelai.run.scheduling.strategies import Strategy
from parallelai.store import Journal
from parallelai.work.streams.record import Stream


@dataclasses.dataclass(frozen=True, slots=True)
class Kept:
    """The engines that `auto` chose for a task in an earlier process of the run, and why it did."""

    engines: tuple[str, ...]
    why: str


def creation(
    job: Job,
    plan: Plan,
    asked: CarryOut,
    review: ReviewOptions | None,
    notes: tuple[str, ...],
    version: str,
) -> RunCreated:
    """Make a run's first event."""
    options = {**_asked(asked), **_decided(job)}
    if review is not None:
        options["review"] = _reviewed(review)
    document = _without_secrets(to_data(plan))
    return RunCreated(job.kind, job.name, str(job.root), version, document, options, notes)


def _asked(asked: CarryOut) -> dict[str, Any]:
    """What a run was asked for; `options` reads it back."""
    return {
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
    }


def _decided(job: Job) -> dict[str, Any]:
    """Who does what in a run, why, and where requests go; `chosen` reads back what `auto` took."""
    doers = _doers(job)
    return {
        "chosen": {
            name: list(who.choice.members)
            for name, who in job.assignments.items()
            if who.why.startswith("auto") and who.error is None
        },
        "engines": {name: list(who.choice.members) for name, who in doers.items()},
        "why": {name: who.why for name, who in doers.items()},
        "addresses": addresses(job),
    }


def _reviewed(review: ReviewOptions) -> dict[str, Any]:
    """What a review is about; `review_options` reads it back."""
    return {
        # A name that is not UTF-8 cannot be written; what stands for each such byte matches it.
        "patterns": [pattern.encode("utf-8", "replace").decode() for pattern in review.patterns],
        "since": review.since,
        "staged": review.staged,
        "template": review.template,
        "checklist": list(review.checklist),
        "base": review.base,
        "baseline": str(review.baseline) if review.baseline is not None else None,
    }


def taken(job: Job, asked: Mapping[str, str], notes: tuple[str, ...]) -> EnginesTaken:
    """Say who does what in a run that is gone on with.

    `asked` are the addresses that requests go to, `notes` what the user has to be told of it.
    """
    found = Counter((who.choice.members, who.why) for who in _doers(job).values())
    rows = tuple(Taken(members, why, count) for (members, why), count in found.items())
    return EnginesTaken(rows, dict(asked), notes)


def _doers(job: Job) -> dict[str, Assignment]:
    """The assignments of tasks that somebody can do."""
    return {name: who for name, who in job.assignments.items() if not who.error and who.choice.members}


WITHHELD = "•••• (not kept)"
"""What stands in a journal in place of a secret in an engine's `env`."""


def _without_secrets(document: dict[str, Any]) -> dict[str, Any]:
    """Leave out what engines' `env` holds that sounds secret: journals are kept, exported and passed on."""
    engines = {name: dict(entry) for name, entry in document.get("engines", {}).items()}
    for entry in engines.values():
        if env := entry.get("env"):
            hidden = {key: WITHHELD if is_secret(key, str(value)) else value for key, value in env.items()}
            entry["env"] = hidden
    return {**document, "engines": engines} if engines else document


def names_of(created: RunCreated, standing: Iterable[str] = ()) -> Names:
    """What a run's plan may refer to besides itself: variables set for the run, and the `standing` ones of config."""
    return Names(vars=frozenset({*standing, *created.options.get("variables", {})}))


def plan_of(created: RunCreated, standing: Iterable[str] = ()) -> Plan:
    """Give the plan that a run recorded; `standing` are the variables of config.

    Secrets, which are not kept, are taken from this process's environment.
    """
    plan = load.from_mapping(created.document, names=names_of(created, standing))
    engines = {name: _refilled(entry) for name, entry in plan.engines.items()}
    return plan if engines == plan.engines else plan.model_copy(update={"engines": engines})


def plan_now(created: RunCreated, root: Path, standing: Iterable[str] = ()) -> Plan:
    """Give the plan that a run goes on with: its file as it is now, or what was recorded where there is no file.

    Raises `PlanError` where the file is no plan.
    """
    path = root / created.plan if created.plan is not None else None
    if path is None or not path.is_file():
        return plan_of(created, standing)
    # Engines and files were looked for when work began; who goes on needs neither to be there still.
    return load.load(path, root=root, names=names_of(created, standing), allow_overlaps=True)


def plan_seen(created: RunCreated, root: Path, standing: Iterable[str] = ()) -> Plan:
    """Give all workstreams that a run may be about: of its plan now, and as recorded. No file raises anything."""
    recorded = plan_of(created, standing)
    try:
        now = plan_now(created, root, standing)
    except ParallelAIError:  # somebody is at it
        return recorded
    known = {work.id for work in now.works}
    gone = tuple(work for work in recorded.workstreams if work.id not in known)
    return now.model_copy(update={"workstreams": (*now.workstreams, *gone)})


def _refilled(entry: EngineEntry) -> EngineEntry:
    if WITHHELD not in entry.env.values():
        return entry
    known = {name: os.environ.get(name) if value == WITHHELD else value for name, value in entry.env.items()}
    return entry.model_copy(
        update={"env": {name: value for name, value in known.items() if value is not None}}
    )


def _plain(choice: Choice | None) -> Any:
    if choice is None:
        return None
    if choice.rule == "one":
        return choice.members[0]
    return {choice.rule: dict(choice.routes) if choice.rule == "route" else list(choice.members)}


def changes(options: CarryOut, prior: resume.Prior) -> tuple[EventData, ...]:
    """What a run goes on with that it did not have before."""
    if prior.created is None:
        return ()
    changed = changed_budget(options, prior.created, prior.budget)
    return (changed,) if changed is not None else ()


def changed_budget(
    options: CarryOut, created: RunCreated, changed: BudgetChanged | None
) -> BudgetChanged | None:
    """Say which budget a run goes on with, if that is not the one that it had."""
    asked = options.budget
    if asked is None or asked == last_budget(created, changed):
        return None
    return BudgetChanged(asked.usd, asked.tokens, asked.time)


def last_budget(created: RunCreated, changed: BudgetChanged | None) -> Budget | None:
    """The budget that a run had at last."""
    if changed is None:
        return budget_of(created.options.get("budget"))
    return Budget(usd=changed.usd, tokens=changed.tokens, time=changed.time)


def begun_anew(stream: Stream, root: Path, version: str, standing: Iterable[str] = ()) -> RunCreated:
    """Make the first event of a workstream's run that was deleted, of its plan as its file is now.

    Raises `UsageError` where that is gone, too, and `PlanError` where it is no plan.
    """
    path = root / stream.plan
    if not path.is_file():
        said = f"run `{stream.run}` of `{stream.name}` was deleted, and its plan `{stream.plan}` is gone"
        raise UsageError(said, next=f"bring the plan back; what it did is on `{stream.branch}`")
    plan = load.load(path, root=root, names=Names(vars=frozenset(standing)), allow_overlaps=True)
    document = _without_secrets(to_data(plan))
    return RunCreated("execute", stream.plan, str(root), version, document, {})


def beginning(journal: Journal, run: str) -> tuple[RunCreated, BudgetChanged | None]:
    """Give a run's first event, and the last change of its budget. Raises `StoreCorruptError`."""
    changes = [
        event.data
        for event in journal.events(run, types={BudgetChanged.type})
        if isinstance(event.data, BudgetChanged)
    ]
    return created(journal, run), changes[-1] if changes else None


def created(journal: Journal, run: str) -> RunCreated:
    """Give a run's first event. Raises `StoreCorruptError` if it is not there."""
    for event in journal.events(run, types={RunCreated.type}):
        if isinstance(event.data, RunCreated):
            return event.data
    raise StoreCorruptError(f"run `{run}` has no beginning", next="run `parallelai doctor --repair`")


def refuse_stopping(journal: Journal, run: str) -> None:
    """Refuse to go on with a run that somebody is just ending. Raises `BusyError`."""
    if not journal.is_owned(run):
        return
    course = [event.type for event in journal.events(run, types={RunStarted.type, RunStopping.type})]
    if course[-1:] == [RunStopping.type]:
        raise BusyError(f"run `{run}` is stopping", next=f"when it has ended: `parallelai runs resume {run}`")


def spare(journal: Journal, name: str | None, kind: str) -> dict[str, dict[int, resume.Answered]]:
    """Give the replies of the latest run of the same, if it was killed: the last of them are not in the cache."""
    row = journal.latest(plan=name, kind=kind) if name is not None else None
    if row is None or row.ended_at is not None:
        return {}
    types = {AttemptStarted.type, AttemptEnded.type, TaskEnded.type}
    return resume.read(journal.events(row.id, types=types)).answered


def chosen(journal: Journal, run: str) -> dict[str, Kept]:
    """Give the engines that `auto` chose for the run's tasks, and why."""
    recorded = created(journal, run).options
    whys = recorded.get("why", {})
    return {
        str(name): Kept(tuple(members), str(whys.get(name, "auto")))
        for name, members in recorded.get("chosen", {}).items()
    }


def options(created: RunCreated, changed: BudgetChanged | None, asked: CarryOut) -> CarryOut:
    """Fill what was not asked anew with what the run was asked for before."""
    old = created.options
    return dataclasses.replace(
        asked,
        engine=asked.engine or choice_of(old.get("engine"))[0],
        model=asked.model or old.get("model"),
        parallel=asked.parallel or old.get("parallel"),
        budget=asked.budget or last_budget(created, changed),
        timeout_seconds=asked.timeout_seconds or old.get("timeout"),
        strategy=asked.strategy or _known_strategy(old.get("strategy")),
        variables={**old.get("variables", {}), **asked.variables},
        only=asked.only or tuple(old.get("only", ())),
        is_cacheable=asked.is_cacheable and bool(old.get("is_cacheable", True)),
        fail_on=asked.fail_on or severity_of(old.get("fail_on")),
    )


def _known_strategy(name: str | None) -> Strategy | None:
    """The strategy of that name; None for an object that is not there any more: the plan's own does, too."""
    try:
        return strategy_of(name)
    except UsageError:
        return None


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
