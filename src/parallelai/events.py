"""The typed events: everything that happens in a run, and the only thing that watchers read (CONTRACTS §8).

An event is an envelope (`Event`) around one of the data classes below, named by its `type`. A reader of a
newer journal keeps what it does not know as a plain mapping, so that it can still be listed and exported.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from parallelai.records import (
    ConflictPair,
    ErrorRecord,
    FileNote,
    Finding,
    LimitKey,
    Outcome,
    Reply,
    TaskResult,
    Usage,
    encoder,
    from_json,
)

VERSION = 1


@dataclass(frozen=True, slots=True)
class RunCreated:
    """The plan as it was understood: `document` is the canonical plan, `options` what was asked beside it."""

    type: ClassVar[str] = "run.created"
    kind: str  # "execute" or "review"
    plan: str | None  # the plan's path below the root, or what identifies a review
    root: str
    version: str  # of ParallelAI
    document: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A process took the run over; more than one for a run that was resumed."""

    type: ClassVar[str] = "run.started"
    pid: int
    host: str
    parallel: int
    strategy: str
    is_resume: bool = False


@dataclass(frozen=True, slots=True)
class RunPaused:
    type: ClassVar[str] = "run.paused"
    why: str


@dataclass(frozen=True, slots=True)
class RunResumed:
    type: ClassVar[str] = "run.resumed"
    why: str


@dataclass(frozen=True, slots=True)
class RunEnded:
    type: ClassVar[str] = "run.ended"
    outcome: Outcome
    exit: int
    seconds: float
    seconds_one_by_one: float
    counts: dict[Outcome, int]
    usage: Usage


@dataclass(frozen=True, slots=True)
class TaskExpanded:
    """The instances of the plan's tasks, in plan order, and the files of those that have some.

    `skipped` are files that were asked about and given to nobody. `is_addition`: these come to those that
    the run already has (`runs add`); otherwise they are all of them.
    """

    type: ClassVar[str] = "task.expanded"
    items: tuple[str, ...]
    files: dict[str, tuple[str, ...]] = field(default_factory=dict)
    skipped: tuple[FileNote, ...] = ()
    is_addition: bool = False


@dataclass(frozen=True, slots=True)
class TaskReady:
    """The task could start, and has to wait. One that starts at once has no such event: its first
    `attempt.reserved` says that it was ready."""

    type: ClassVar[str] = "task.ready"


@dataclass(frozen=True, slots=True)
class TaskStep:
    """The task entered a step, such as `check`."""

    type: ClassVar[str] = "task.step"
    step: str
    stage: str


@dataclass(frozen=True, slots=True)
class TaskEnded:
    """The one final result of a task, without its text.

    `by` are the attempts whose replies together are its reply; `is_kept`: nothing was done for it in this
    process, because it had ended well before and nothing that it depends on has changed.
    """

    type: ClassVar[str] = "task.ended"
    result: TaskResult
    fingerprint: str = ""
    by: tuple[int, ...] = ()
    is_kept: bool = False


@dataclass(frozen=True, slots=True)
class AttemptReserved:
    """The claim, before anything starts."""

    type: ClassVar[str] = "attempt.reserved"
    engine: str
    key: LimitKey
    why: str
    tokens: int | None = None
    usd: float | None = None


@dataclass(frozen=True, slots=True)
class AttemptStarted:
    """`fingerprint` is of all that the attempt's reply depends on, so that a later process can tell
    whether it still holds."""

    type: ClassVar[str] = "attempt.started"
    engine: str
    model: str | None = None
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    """`reply` is the validated one, None if the attempt failed; `is_cached`: no engine was asked.

    `calls` is how many requests a model engine had leave for: one, but for repairs and second passes.
    """

    type: ClassVar[str] = "attempt.ended"
    engine: str
    ok: bool
    seconds: float
    usage: Usage | None = None
    reply: Reply | None = None
    error: ErrorRecord | None = None
    is_cached: bool = False
    calls: int = 0


@dataclass(frozen=True, slots=True)
class TurnStarted:
    """A turn after the first began; the first begins with its attempt."""

    type: ClassVar[str] = "turn.started"
    turn: int


@dataclass(frozen=True, slots=True)
class TurnEnded:
    """A turn of an attempt that had more than one is over. An only turn ends with its attempt.

    `reason` is `part` where an item of `todo` is done and the next one follows.
    """

    type: ClassVar[str] = "turn.ended"
    turn: int
    seconds: float
    usage: Usage | None = None
    reason: str = "end_turn"


@dataclass(frozen=True, slots=True)
class SessionOpened:
    type: ClassVar[str] = "session.opened"
    session: str


@dataclass(frozen=True, slots=True)
class PermissionAsked:
    """An assistant asks for leave to do something; the attempt waits for the answer."""

    type: ClassVar[str] = "permission.asked"
    question: str
    what: str
    options: tuple[str, ...]
    detail: str = ""


@dataclass(frozen=True, slots=True)
class PermissionAnswered:
    """`by` is `policy`, or who answered."""

    type: ClassVar[str] = "permission.answered"
    question: str
    option: str
    by: str


@dataclass(frozen=True, slots=True)
class WorkspaceCreated:
    """`base` is the commit that it was cut from, in the run's own repository of snapshots."""

    type: ClassVar[str] = "workspace.created"
    path: str
    base: str
    edits: bool


@dataclass(frozen=True, slots=True)
class WorkspaceRemoved:
    type: ClassVar[str] = "workspace.removed"
    path: str


@dataclass(frozen=True, slots=True)
class GuardKeptOut:
    """What an assistant changed and may not change. `patch` holds it, where it could be kept."""

    type: ClassVar[str] = "guard.kept_out"
    paths: tuple[str, ...]
    why: str
    patch: str | None = None


@dataclass(frozen=True, slots=True)
class ChangeMade:
    """`patch` is relative to the root; `base` and `commit` are in the run's own repository of snapshots."""

    type: ClassVar[str] = "change.made"
    patch: str
    files: tuple[str, ...]
    base: str
    commit: str
    kept_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ChangeApplied:
    """The change is in the user's checkout, or, `is_undone`, was taken out of it again.

    `written` gives for each path the content's hash before and after, None where there was no file.
    """

    type: ClassVar[str] = "change.applied"
    files: tuple[str, ...]
    written: dict[str, tuple[str | None, str | None]] = field(default_factory=dict)
    is_undone: bool = False


@dataclass(frozen=True, slots=True)
class ChangeRefused:
    """The change could not be applied, or taken back; it is kept."""

    type: ClassVar[str] = "change.refused"
    paths: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True)
class LimitChanged:
    type: ClassVar[str] = "limit.changed"
    key: LimitKey
    before: int | None
    after: int | None
    why: str


@dataclass(frozen=True, slots=True)
class BreakerOpened:
    type: ClassVar[str] = "breaker.opened"
    key: LimitKey
    why: str
    until: str | None = None


@dataclass(frozen=True, slots=True)
class BreakerClosed:
    type: ClassVar[str] = "breaker.closed"
    key: LimitKey


@dataclass(frozen=True, slots=True)
class BudgetWarned:
    """80 % of a limit is used or reserved. `what` is usd, tokens or time (seconds)."""

    type: ClassVar[str] = "budget.warned"
    what: str
    used: float
    limit: float


@dataclass(frozen=True, slots=True)
class BudgetReached:
    type: ClassVar[str] = "budget.reached"
    what: str
    used: float
    limit: float


@dataclass(frozen=True, slots=True)
class BudgetChanged:
    type: ClassVar[str] = "budget.changed"
    usd: float | None = None
    tokens: int | None = None
    time: float | None = None


@dataclass(frozen=True, slots=True)
class CommandReceived:
    type: ClassVar[str] = "command.received"
    command: int
    kind: str
    args: dict[str, Any] = field(default_factory=dict)
    by: str = ""


@dataclass(frozen=True, slots=True)
class CommandDone:
    type: ClassVar[str] = "command.done"
    command: int
    ok: bool
    said: str = ""


@dataclass(frozen=True, slots=True)
class FindingRecorded:
    """The collected findings of the whole run: de-duplicated, ranked, with their states."""

    type: ClassVar[str] = "finding.recorded"
    findings: tuple[Finding, ...]
    dropped: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OrphanEnded:
    type: ClassVar[str] = "process.orphan_ended"
    pid: int
    command: str


@dataclass(frozen=True, slots=True)
class WorkspaceRepaired:
    """What a crash left half done was put right, or what a check left was taken back: `what` says it."""

    type: ClassVar[str] = "workspace.repaired"
    path: str
    what: str


@dataclass(frozen=True, slots=True)
class LeaseAsked:
    """A workstream asks for leave to edit files that it does not own (CONTRACTS §10)."""

    type: ClassVar[str] = "lease.asked"
    paths: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class LeaseGranted:
    """`by` is `policy`, or who gave leave."""

    type: ClassVar[str] = "lease.granted"
    paths: tuple[str, ...]
    by: str = "policy"


@dataclass(frozen=True, slots=True)
class LeaseRefused:
    type: ClassVar[str] = "lease.refused"
    paths: tuple[str, ...]
    why: str
    by: str = "policy"


@dataclass(frozen=True, slots=True)
class LeaseEnded:
    type: ClassVar[str] = "lease.ended"
    paths: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True)
class ConflictSeen:
    """Two workstreams, or one and the target, do not fit together; once for each pair, until it is gone."""

    type: ClassVar[str] = "conflict.seen"
    pair: ConflictPair


@dataclass(frozen=True, slots=True)
class ConflictGone:
    type: ClassVar[str] = "conflict.gone"
    a: str
    b: str


@dataclass(frozen=True, slots=True)
class ConflictWaiting:
    """A workstream waits until those that it conflicts with have landed.

    `where`: the files that git cannot merge, in a few words; `why`: what one uses and the other changed, where the
    files merge and what comes of it would not work. One of the two may be empty.
    """

    type: ClassVar[str] = "conflict.waiting"
    names: tuple[str, ...]
    where: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class ConflictWaited:
    """It goes on: these have `landed`, these have `left` without landing; with any others it fits together now."""

    type: ClassVar[str] = "conflict.waited"
    landed: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GateStarted:
    """A gate runs on a tree; `names` are the workstreams that the tree would land."""

    type: ClassVar[str] = "gate.started"
    command: str
    commit: str
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GateEnded:
    """`new_failures` are tests that fail and did not on the base; `flaky` those that passed when run alone.

    `tests` is how many its report has, `passed` how many of them passed; None where it has no report.
    """

    type: ClassVar[str] = "gate.ended"
    command: str
    commit: str
    ok: bool
    exit: int | None
    seconds: float
    log: str
    names: tuple[str, ...] = ()
    new_failures: tuple[str, ...] = ()
    flaky: tuple[str, ...] = ()
    why: str | None = None
    tests: int | None = None
    passed: int | None = None


@dataclass(frozen=True, slots=True)
class LandingQueued:
    type: ClassVar[str] = "landing.queued"
    commit: str
    target: str


@dataclass(frozen=True, slots=True)
class LandingLanded:
    """The target moved from `before` to `commit`, whose tree passed the gates.

    `pending` is the branch that holds the result where git refused to move the user's checkout.
    """

    type: ClassVar[str] = "landing.landed"
    target: str
    before: str
    commit: str
    tree: str
    pending: str | None = None
    gates: tuple[dict[str, Any], ...] = ()  # as in `workstream.landed.gates` of CONTRACTS §5


@dataclass(frozen=True, slots=True)
class LandingBlocked:
    type: ClassVar[str] = "landing.blocked"
    why: str
    with_: tuple[str, ...] = ()  # the other workstreams that it does not fit together with


@dataclass(frozen=True, slots=True)
class LandingUndone:
    """A landing was taken back by a new commit of the target."""

    type: ClassVar[str] = "landing.undone"
    target: str
    commit: str


@dataclass(frozen=True, slots=True)
class WorkstreamRevisited:
    """A workstream that had ended is taken up again, and `why`: its landing is gone, or somebody asked for it.

    `is_anew`: nothing that is known of its work holds; else its branch lands as it is.
    """

    type: ClassVar[str] = "workstream.revisited"
    name: str
    is_anew: bool
    why: str


@dataclass(frozen=True, slots=True)
class DecisionMade:
    """How a conflict was settled: `by` is a resolver's name, an engine's, or `person`."""

    type: ClassVar[str] = "decision.made"
    path: str
    by: str
    why: str
    key: str  # of the same conflict, wherever it is met again


EventData = (
    RunCreated
    | RunStarted
    | RunPaused
    | RunResumed
    | RunEnded
    | TaskExpanded
    | TaskReady
    | TaskStep
    | TaskEnded
    | AttemptReserved
    | AttemptStarted
    | AttemptEnded
    | TurnStarted
    | TurnEnded
    | SessionOpened
    | PermissionAsked
    | PermissionAnswered
    | WorkspaceCreated
    | WorkspaceRemoved
    | GuardKeptOut
    | ChangeMade
    | ChangeApplied
    | ChangeRefused
    | LimitChanged
    | BreakerOpened
    | BreakerClosed
    | BudgetWarned
    | BudgetReached
    | BudgetChanged
    | CommandReceived
    | CommandDone
    | FindingRecorded
    | OrphanEnded
    | WorkspaceRepaired
    | LeaseAsked
    | LeaseGranted
    | LeaseRefused
    | LeaseEnded
    | ConflictSeen
    | ConflictGone
    | ConflictWaiting
    | ConflictWaited
    | GateStarted
    | GateEnded
    | LandingQueued
    | LandingLanded
    | LandingBlocked
    | LandingUndone
    | WorkstreamRevisited
    | DecisionMade
)

TYPES: dict[str, type[EventData]] = {kind.type: kind for kind in EventData.__args__}
"""The data class of each event type that this version writes."""
_CLASSES = frozenset(TYPES.values())


@dataclass(frozen=True, slots=True)
class Event:
    """One fact of a run. `seq` counts from 1 without gaps; `data` is a mapping only if the type is unknown."""

    run: str
    seq: int
    at: str
    type: str
    data: EventData | Mapping[str, Any]
    task: str | None = None
    attempt: int | None = None
    v: int = VERSION


def data_to_json(data: EventData | Mapping[str, Any]) -> str:
    """Encode an event's data as compact JSON text, as the journal stores it."""
    if type(data) not in _CLASSES and isinstance(data, Mapping):
        return json.dumps(data, separators=(",", ":"))
    encode = _ENCODERS.get(type(data))
    if encode is None:
        encode = _ENCODERS[type(data)] = encoder(type(data))
    return encode(data, warnings=False).decode()


_ENCODERS: dict[type[Any], Callable[..., bytes]] = {}


def data_from_json(type_: str, text: str) -> EventData | Mapping[str, Any]:
    """Decode what `data_to_json` wrote. Raises `pydantic.ValidationError` if it is not of that type."""
    raw = json.loads(text)
    kind = TYPES.get(type_)
    return raw if kind is None else from_json(kind, raw)


def event_to_json(event: Event) -> str:
    """Encode an event as one line of JSON, in the shape of CONTRACTS §8."""
    envelope = {
        "v": event.v,
        "run": event.run,
        "seq": event.seq,
        "at": event.at,
        "type": event.type,
        "task": event.task,
        "attempt": event.attempt,
    }
    head = json.dumps(envelope, separators=(",", ":"))
    return f'{head[:-1]},"data":{data_to_json(event.data)}}}'
