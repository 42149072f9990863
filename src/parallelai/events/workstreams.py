"""Events of workstreams: leases, conflicts, gates, landings, decisions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from parallelai.records import ConflictPair, Usage


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
class LandingAsked:
    """An engine was asked for a landing, and what that used: `what` is `review` or `conflict`.

    That is a run of its own, with a journal of its own; `engine` and `model` are of its tasks.
    """

    type: ClassVar[str] = "landing.asked"
    what: str
    engine: str
    model: str | None
    ok: bool
    seconds: float
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class LandingUndone:
    """A landing was taken back by a new commit of the target."""

    type: ClassVar[str] = "landing.undone"
    target: str
    commit: str


@dataclass(frozen=True, slots=True)
class WorkstreamRevisited:
    """A workstream that had ended is taken up again, and `why`: its landing is gone or not pushed, or somebody asked.

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


WorkstreamData = (
    LeaseAsked
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
    | LandingAsked
    | LandingBlocked
    | LandingUndone
    | WorkstreamRevisited
    | DecisionMade
)
