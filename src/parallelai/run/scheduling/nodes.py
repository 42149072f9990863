"""What the scheduler is told: the tasks of a run as nodes, and what came of an attempt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, Protocol

from msgspec import Struct

from parallelai.engines.protocol import Estimate
from parallelai.records import ErrorRecord, LimitKey, Outcome, Usage, light_record

Rule = Literal["one", "fallback", "race", "vote", "spread"]
OnFailure = Literal["skip-dependents", "continue", "stop"]

PERFORM = "perform"
"""The step that attempts carry out."""

PHASE = "phase:"
"""A group of this prefix is a phase: to await it is to await its end, whatever the outcomes in it."""


class Budget(Protocol):
    """Limits of money (USD), tokens and time (seconds); None is no limit. The plan's `Budget` is one."""

    @property
    def usd(self) -> float | None: ...
    @property
    def tokens(self) -> int | None: ...
    @property
    def time(self) -> float | None: ...


class Allowance(Struct, frozen=True):
    """A `Budget` without anything to validate; also, as `spent`, what was used so far."""

    usd: float | None = None
    tokens: int | None = None
    time: float | None = None


class Member(Struct, frozen=True):
    """One engine of a choice, and the limit that its calls count for."""

    engine: str
    key: LimitKey


class RoleLimit(Struct, frozen=True):
    """At most `parallel` attempts of the tasks of a role are in flight at once."""

    role: str
    parallel: int


@light_record
class Node:
    """A task as the scheduler sees it.

    `depends_on` names nodes, `awaits` names groups that are awaited as a whole. `steps` are carried out in
    order; `perform` by attempts of `members` as `rule` says, the others one by one. `weight` is the plan's
    priority: smaller is more urgent. `retry_on` are error kinds that are retried beside `transient`. A node
    without members whose `prepare` does not settle it ends `blocked`. `role` is None where its role has no limit.

    `unslotted` are steps that wait for others more than they work: they start at once and take no slot.
    `finish_step` is the number of steps after which those that name this node in their `after_finish` may
    start; 0 where that is only at its end.
    """

    id: str
    index: int
    depends_on: tuple[str, ...] = ()
    awaits: tuple[str, ...] = ()
    steps: tuple[str, ...] = (PERFORM,)
    rule: Rule = "one"
    members: tuple[Member, ...] = ()
    estimate_seconds: float = 60.0
    weight: float = 1.0
    retries: int = 3
    retry_on: frozenset[str] = frozenset()
    on_failure: OnFailure = "skip-dependents"
    phase: int = 0
    role: RoleLimit | None = None
    budget: Budget | None = None
    unslotted: frozenset[str] = frozenset()
    finish_step: int = 0
    after_finish: frozenset[str] = frozenset()


class Prepared(NamedTuple):
    """A task that can start: what its attempts will take, one estimate for each member."""

    estimates: tuple[Estimate, ...] = ()


class Settled(NamedTuple):
    """A task that needs no attempt: skipped by `when`, kept from before, blocked."""

    outcome: Outcome
    error: ErrorRecord | None = None
    why: str = ""


class AttemptResult(NamedTuple):
    """What came of an attempt. A cancelled one is not `ok` and has no `error`.

    `retry_after_seconds` is the provider's own word; `is_quota` says that its limit is used up until then.
    `is_alone` says that only this task waits so long: what holds its key's other calls back is known.
    """

    ok: bool
    seconds: float = 0.0
    usage: Usage | None = None
    error: ErrorRecord | None = None
    retry_after_seconds: float | None = None
    is_quota: bool = False
    is_alone: bool = False


class Statistics(Struct, frozen=True):
    """Where a run stands, in numbers of tasks; `in_flight` counts attempts and steps.

    `ready` could start, `waiting` wait for dependencies or for a time, `working` have begun. `limit_bound` is
    the `why` of the last `Wait`. `spent_*` is settled, `reserved_*` is in flight; `unpriced` counts attempts
    whose cost is unknown.
    """

    in_flight: int
    ready: int
    waiting: int
    working: int
    done: int
    limit_bound: str
    outcomes: Mapping[Outcome, int]
    parallel: int
    is_paused: bool
    spent_usd: float
    spent_tokens: int
    reserved_usd: float
    reserved_tokens: int
    unpriced: int
