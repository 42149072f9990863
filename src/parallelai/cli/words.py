"""What the user is told of events, in words: while a run is carried out, and in `runs logs`."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from parallelai import events as e
from parallelai.records import Outcome
from parallelai.results.summary import number, seconds, spent

_CANARY = "canary: "
"""Before the command of a gate that is tried on a broken file, and has to fail there."""


def said_of(data: object) -> str | None:
    """What the user is told at once of an event, None for nothing."""
    match data:
        case e.RunPaused():
            return f"{data.why}; `parallelai runs resume` lets it go on"
        case e.RunResumed():
            return data.why
        case e.BudgetWarned():
            used, limit = _amount(data.what, data.used), _amount(data.what, data.limit)
            return f"budget: {used} of {limit} are used or reserved"
        case e.BudgetReached():
            return f"budget: the limit of {_amount(data.what, data.limit)} is reached; no new starts"
        case e.GateEnded(ok=False, names=(), why=str()) if not data.command.startswith(_CANARY):
            # On the target as it is, say: better known before the work is done and paid for.
            return _of_gate(data)
        case e.LimitReached() | e.LimitWaiting() | e.BreakerOpened():
            return _said_of_limit(data)
        case e.OrphanEnded():
            return f"ended a process that an earlier run left behind: {data.pid} {data.command}"
        case e.WorkspaceRepaired():
            return f"{data.what}: {data.path}"
        case e.WorkstreamRevisited():
            how = "it is begun anew" if data.is_anew else "its landing is taken up again"
            return f"`{data.name}` {data.why}; {how}"
    return None


def _said_of_limit(data: e.LimitReached | e.LimitWaiting | e.BreakerOpened) -> str:
    if isinstance(data, e.LimitWaiting):
        return f"waiting: rate limited until {data.until} (`{data.key.engine}`): {data.why}"
    if isinstance(data, e.BreakerOpened):
        until = f" until {data.until}" if data.until else ""
        return f"`{data.key.engine}` waits{until}: {data.why}"
    if data.what == "memory":
        held = f"what is at work takes {data.at_work:,} of {data.limit:,} MiB"
        return f"waiting: memory: {held}, and one more of `{data.name}` does not fit"
    why = ", its `concurrency`" if data.what == "engine" else ""
    return f"waiting: {data.what} `{data.name}`: {data.at_work} of {data.limit} at work{why}"


def said_of_wait(name: str, data: e.ConflictWaiting | e.ConflictWaited | e.TaskStep) -> str | None:
    """What the user is told when a task begins to wait for others or for a person, and when it goes on."""
    if isinstance(data, e.TaskStep):
        approve, reject = (f"`parallelai work {verb} {shlex.quote(name)}`" for verb in ("approve", "reject"))
        waits = {
            "leave": f"leave: {approve}, or {reject}",
            "wait": "what others hold of this machine: see `parallelai work ledger`",
        }
        return f"`{name}` waits for {waits[data.step]}" if data.step in waits else None
    if isinstance(data, e.ConflictWaiting):
        from parallelai.work.conflicts import waiting  # the few runs that have conflicts need it

        return f"`{name}` waits for {_names(data.names)} to land: {waiting.said_of(data.where, data.why)}"
    ends = ((data.landed, "landed"), (data.left, "ended without landing"))
    said = [f"{_names(names)} {'has' if len(names) == 1 else 'have'} {how}" for names, how in ends if names]
    return f"`{name}` goes on: {', '.join(said) or 'what it does fits again'}"


def told(event: e.Event) -> str:
    """An event as one line for people, without its time and task; `--json` has all of it."""
    data = event.data
    if isinstance(data, e.ConflictWaiting | e.ConflictWaited | e.TaskStep):
        wait = said_of_wait(event.task or "", data)
        return wait or (data.stage if isinstance(data, e.TaskStep) else event.type)
    if isinstance(data, e.AttemptReserved | e.AttemptStarted | e.AttemptEnded):
        return f"attempt {event.attempt} by {data.engine} {_of_attempt(data)}"
    words = WORDS.get(type(data))
    return words(data) if words is not None else said_of(data) or event.type


def _of_attempt(data: e.AttemptReserved | e.AttemptStarted | e.AttemptEnded) -> str:
    if isinstance(data, e.AttemptReserved):
        return f"is due ({data.why})"
    if isinstance(data, e.AttemptStarted):
        return "started" + (f" with {data.model}" if data.model else "")
    if data.is_cached:
        return "was not needed: its reply was there already"
    cost = spent(data.usage) if data.usage is not None else ""
    facts = ", ".join(filter(None, (seconds(data.seconds), cost)))
    if data.error is not None:
        return f"failed after {facts}: {data.error.kind}: {_first(data.error.said)}"
    return f"ended, {facts}" if data.ok else f"was cancelled after {facts}"


def _of_asked(data: e.LandingAsked) -> str:
    what = "for a review of what lands" if data.what == "review" else "to settle a conflict"
    cost = spent(data.usage) if data.usage is not None else ""
    return f"`{data.engine}` was asked {what}: {', '.join(filter(None, (seconds(data.seconds), cost)))}"


def _of_task(data: e.TaskEnded) -> str:
    result = data.result
    if data.is_kept:
        return f"task {result.status}, as before"
    facts = [f"task {result.status}"]
    if result.attempts:
        facts.append(seconds(result.seconds))
    if result.findings:
        facts.append(number(result.findings, "finding"))
    if result.error is not None:
        # after an attempt its line has said more
        facts.append(
            result.error.kind if result.attempts else f"{result.error.kind}: {_first(result.error.said)}"
        )
    return ", ".join(facts) + (f", because {result.because}" if result.because else "")


def _of_run(data: e.RunEnded) -> str:
    counted = ", ".join(f"{data.counts[each]:,} {each}" for each in Outcome if data.counts.get(each))
    facts = ", ".join(filter(None, (counted, seconds(data.seconds), spent(data.usage))))
    return f"the run ended, {data.outcome} (exit {data.exit}): {facts}"


def _of_expansion(data: e.TaskExpanded) -> str:
    files = len({file for files in data.files.values() for file in files})
    about = f" about {number(files, 'file')}" if files else ""
    return number(len(data.items), "task") + about + (" more" if data.is_addition else "")


def _of_change(data: e.ChangeApplied | e.ChangeRefused) -> str:
    if isinstance(data, e.ChangeApplied):
        return f"{number(len(data.files), 'file')} {'taken back' if data.is_undone else 'applied'}"
    paths = f": {', '.join(data.paths)}" if data.paths else ""
    return f"not {'taken back' if data.is_undo else 'applied'}: {data.why}{paths}"


def _of_gate(data: e.GateEnded) -> str:
    if data.command.startswith(_CANARY) and data.ok:
        return f"gate `{data.command}` failed, {seconds(data.seconds)}, as it has to; see `{data.log}`"
    end = "passed" if data.ok else "failed" + (f" (exit {data.exit})" if data.exit is not None else "")
    why = f": {_first(data.why).removeprefix('fails: ')}" if data.why else ""
    return f"gate `{data.command}` {end}, {seconds(data.seconds)}{why}; see `{data.log}`"


def _of_landing(data: e.LandingLanded) -> str:
    pending = f", on `{data.pending}`: the checkout could not follow" if data.pending else ""
    return f"landed on {data.target} at {data.commit[:10]}{pending}"


def _of_budget(data: e.BudgetChanged) -> str:
    parts = (("usd", data.usd), ("tokens", data.tokens), ("time", data.time))
    now = ", ".join(_amount(what, value) for what, value in parts if value is not None)
    return f"the budget is {now or 'without a limit'} now"


def _of_engines(data: e.EnginesTaken) -> str:
    return "; ".join(
        f"{', '.join(one.engines)} ({one.why}): {number(one.tasks, 'task')}" for one in data.taken
    )


def _paths(data: e.LeaseAsked | e.LeaseGranted | e.LeaseRefused | e.LeaseEnded | e.GuardKeptOut) -> str:
    return ", ".join(data.paths)


WORDS: dict[type, Callable[[Any], str]] = {
    e.RunCreated: lambda d: f"run of {d.plan or d.kind}, by version {d.version}",
    e.RunStarted: lambda d: f"{'going on' if d.is_resume else 'started'}, at most {d.parallel} at once",
    e.EnginesTaken: _of_engines,
    e.RunStopping: lambda d: f"stopping: {d.why}",
    e.RunEnded: _of_run,
    e.LimitChanged: lambda d: f"limit of `{d.key.engine}`: {d.before} before, {d.after} now: {d.why}",
    e.BreakerClosed: lambda d: f"`{d.key.engine}` is asked again",
    e.BudgetChanged: _of_budget,
    e.CommandReceived: lambda d: f"{d.by or 'somebody'} asks: {d.kind} {_given(d.args)}".rstrip(),
    e.CommandDone: lambda d: f"{'done' if d.ok else 'refused'}: {d.said}".removesuffix(": "),
    e.FindingRecorded: lambda d: number(len(d.findings), "finding"),
    e.TaskExpanded: _of_expansion,
    e.TaskReady: lambda d: "could start, and waits its turn",
    e.LeaveLapsed: lambda d: "came to something else than leave was given for: that leave has lapsed",
    e.TaskEnded: _of_task,
    e.TurnStarted: lambda d: f"turn {d.turn} started",
    e.TurnEnded: lambda d: f"turn {d.turn} ended ({d.reason}), {seconds(d.seconds)}",
    e.SessionOpened: lambda d: f"session {d.session}",
    e.PermissionAsked: lambda d: f"asks ({d.question}): {d.what} {_first(d.detail)}".rstrip(),
    e.PermissionAnswered: lambda d: f"{d.question} is answered: {d.option} (by {d.by})",
    e.WorkspaceCreated: lambda d: f"works in {d.path}",
    e.WorkspaceRemoved: lambda d: f"removed {Path(d.path).name}, in which it worked",
    e.GuardKeptOut: lambda d: f"kept out: {_paths(d)} ({d.why})",
    e.ChangeMade: lambda d: f"{number(len(d.files), 'file')} changed: {d.patch}",
    e.ChangeApplied: _of_change,
    e.ChangeRefused: _of_change,
    e.LeaseAsked: lambda d: f"asks for leave to change {_paths(d)}: {d.reason}",
    e.LeaseGranted: lambda d: f"may change {_paths(d)} (by {d.by})",
    e.LeaseRefused: lambda d: f"may not change {_paths(d)}: {d.why}",
    e.LeaseEnded: lambda d: f"its leave to change {_paths(d)} has ended: {d.why}",
    e.ConflictSeen: lambda d: f"`{d.pair.a}` and `{d.pair.b}` may not fit together",
    e.ConflictGone: lambda d: f"`{d.a}` and `{d.b}` fit together again",
    e.GateStarted: lambda d: f"gate `{d.command}` started",
    e.GateEnded: _of_gate,
    e.LandingQueued: lambda d: f"waits to land on {d.target}",
    e.LandingLanded: _of_landing,
    e.LandingAsked: _of_asked,
    e.LandingBlocked: lambda d: f"not landed: {d.why}",
    e.LandingUndone: lambda d: f"taken back from {d.target}",
    e.DecisionMade: lambda d: f"conflict in {d.path} settled by {d.by}: {d.why}",
}
"""What has no words in `said_of`, by type."""


def _given(args: dict[str, Any]) -> str:
    return " ".join(str(value) for value in args.values() if isinstance(value, str | int | float))


def _first(text: str) -> str:
    """The first line of what may be many."""
    return text.strip().partition("\n")[0]


def _names(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _amount(what: str, value: float) -> str:
    """Write an amount of a budget: `0.03 usd`, `5,000 tokens`, `2m 30s`."""
    if what == "time":
        return seconds(value)
    return f"{value:,.0f} tokens" if what == "tokens" else f"{value:.4g} {what}"
