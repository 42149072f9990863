"""Events of a run as a whole: its course, its limits and budget, what others asked of it, what it found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from parallelai.records import Finding, LimitKey, Outcome, Usage


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
class Taken:
    """Which `engines` do some tasks of a run, why, and how many `tasks` of its plan these are."""

    engines: tuple[str, ...]
    why: str
    tasks: int


@dataclass(frozen=True, slots=True)
class EnginesTaken:
    """Who does the tasks of a run that is gone on with; of a new run `run.created` says it.

    `addresses` are where engines send their requests, without passwords; empty: where such an engine usually does.
    """

    type: ClassVar[str] = "engines.taken"
    taken: tuple[Taken, ...]
    addresses: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunPaused:
    type: ClassVar[str] = "run.paused"
    why: str


@dataclass(frozen=True, slots=True)
class RunResumed:
    type: ClassVar[str] = "run.resumed"
    why: str


@dataclass(frozen=True, slots=True)
class RunStopping:
    """Somebody ends the run: nothing more starts, and it ends when what is in flight has."""

    type: ClassVar[str] = "run.stopping"
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
class LimitChanged:
    type: ClassVar[str] = "limit.changed"
    key: LimitKey
    before: int | None
    after: int | None
    why: str


@dataclass(frozen=True, slots=True)
class LimitReached:
    """A limit keeps a ready task from starting: `at_work` of `limit` are in flight.

    `what` says whose limit it is (`role`, or `engine` for its `concurrency`), and `name` which one. Of `memory`, `name`
    is the engine that needs more, and the two are MiB. Each is told once by every process of the run.
    """

    type: ClassVar[str] = "limit.reached"
    what: str
    name: str
    at_work: int
    limit: int


@dataclass(frozen=True, slots=True)
class LimitWaiting:
    """A provider asked to slow down: nothing more of its key starts before `until`. Short waits are not told.

    `why` has the provider's words. A wait beyond the plan's `max_wait` opens the key's breaker instead.
    """

    type: ClassVar[str] = "limit.waiting"
    key: LimitKey
    until: str
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
    """What a crash, a check or, without a sandbox, an assistant did outside of its work was put right or seen.

    `what` says it.
    """

    type: ClassVar[str] = "workspace.repaired"
    path: str
    what: str


RunData = (
    RunCreated
    | RunStarted
    | EnginesTaken
    | RunPaused
    | RunResumed
    | RunStopping
    | RunEnded
    | LimitChanged
    | LimitReached
    | LimitWaiting
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
)
