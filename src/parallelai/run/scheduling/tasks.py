"""What the scheduler keeps of a task while it decides, and of the groups that others await."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple, TypeVar

from parallelai.engines.protocol import Estimate
from parallelai.records import ErrorRecord, Outcome
from parallelai.run.scheduling.budget import Reservation
from parallelai.run.scheduling.channels import Channel
from parallelai.run.scheduling.nodes import PERFORM, PHASE, Node, OnFailure

T = TypeVar("T")

NO_ESTIMATE = Estimate()
STEP = 0
"""The number under which a running step stands among a task's attempts, which count from 1."""


class State(IntEnum):
    WAITING = 0  # for dependencies
    OPEN = 1  # could start, is in flight, or waits for a time
    DONE = 2


class Flight(NamedTuple):
    """An attempt, or a step (`channel` None), that is in flight; `is_waiting` for others, it takes no slot."""

    member: int
    channel: Channel | None
    reserved: Reservation
    is_waiting: bool = False


class Ending(NamedTuple):
    """How a task ends once nothing of it is in flight any more."""

    outcome: Outcome
    error: ErrorRecord | None
    why: str


class TaskState:
    """One task. `queued` holds the tickets of its live entries in the queues; other entries are stale.

    `tries` and `errors` have one place for each member: retries so far, and what put the member out.
    """

    __slots__ = (
        "attempts",
        "awaited_by",
        "cause",
        "channels",
        "deadline",
        "ending",
        "errors",
        "estimates",
        "flights",
        "is_away",
        "is_batched",
        "is_cancelling",
        "is_finished",
        "key",
        "limited",
        "limited_since",
        "member_of",
        "missing",
        "node",
        "outcome",
        "queued",
        "retried",
        "seconds",
        "state",
        "step",
        "tokens",
        "tries",
        "usd",
        "wins",
        "withheld",
    )

    def __init__(self, node: Node, channels: tuple[Channel, ...], retried: frozenset[str]) -> None:
        self.node = node
        self.channels = channels
        self.retried = retried
        self.key = 0.0
        self.awaited_by: Sequence[TaskState] = ()  # a list once there is one: most tasks nobody awaits
        self.member_of: Sequence[Group] = ()
        self.attempts = 0
        self.flights: dict[int, Flight] = {}
        self.queued: set[int] = set()
        self.usd = 0.0
        self.tokens = 0
        self.seconds = 0.0
        self.clear()

    def clear(self) -> None:
        """Begin (again): only what attempts were counted and spent stays."""
        self.state = State.WAITING
        self.missing = 0
        self.outcome: Outcome | None = None
        self.cause: TaskState | None = None  # the dependency that decided that this one is skipped
        self.estimates: tuple[Estimate, ...] | None = None
        self.step = 0
        self.tries = [0] * len(self.channels)
        self.errors: list[ErrorRecord | None] = [None] * len(self.channels)
        self.wins = 0
        self.limited = 0
        self.limited_since: float | None = None
        self.deadline = 0  # the ticket of the timer of its own time budget
        self.ending: Ending | None = None
        self.is_batched = False  # it is one of a batch that has begun
        self.is_away = False  # that batch does not count it, because it waits for another task
        self.is_cancelling = False
        self.is_finished = False  # it is past its `finish_step`
        self.withheld: Ending | None = None  # why a part of it could not start

    @property
    def is_performing(self) -> bool:
        steps = self.node.steps
        return self.step < len(steps) and steps[self.step] == PERFORM

    @property
    def is_under_way(self) -> bool:
        """Whether it goes on though nothing new may start: it is in flight, or between its steps."""
        return bool(self.flights) or (self.step > 0 and not self.is_performing)

    @property
    def is_parked(self) -> bool:
        """Whether all attempts of it that are in flight wait for other tasks; a step never does."""
        flights = self.flights.values()
        return bool(flights) and all(flight.is_waiting and flight.channel is not None for flight in flights)

    @property
    def is_unslotted(self) -> bool:
        """Whether its present step takes no slot."""
        node = self.node
        return (
            bool(node.unslotted) and self.step < len(node.steps) and node.steps[self.step] in node.unslotted
        )

    def is_met_by(self, other: TaskState) -> bool:
        """Whether what it waits for of another is there, though that one has not ended."""
        return other.is_finished and other.node.id in self.node.after_finish

    def alive(self) -> tuple[int, ...]:
        """Give the members that are not out."""
        return tuple(at for at, error in enumerate(self.errors) if error is None)

    def estimate(self, member: int) -> Estimate:
        found = self.estimates
        return found[member] if found is not None and member < len(found) else NO_ESTIMATE

    def over_own_budget(self, wanted: Reservation) -> str | None:
        """Name the limit of the task's own budget that does not allow another attempt."""
        budget = self.node.budget
        if budget is None:
            return None
        if budget.time is not None and self.seconds >= budget.time:
            return "time"
        if budget.usd is not None and _is_over(self.usd, wanted.usd, budget.usd, wanted.is_free):
            return "usd"
        if budget.tokens is not None and _is_over(self.tokens, wanted.tokens, budget.tokens, wanted.is_free):
            return "tokens"
        return None

    def lets_dependents_run(self) -> bool:
        return lets_run(self.outcome, self.node.on_failure)

    def add_waiter(self, waiter: TaskState) -> None:
        """Let another task wait for this one."""
        self.awaited_by = _with(self.awaited_by, waiter)

    def join(self, group: Group) -> None:
        """Become a member of a group."""
        self.member_of = _with(self.member_of, group)


def _with(items: Sequence[T], item: T) -> list[T]:
    """Add an item to a list, which is made at the first."""
    if isinstance(items, list):
        items.append(item)
        return items
    return [item]


def _is_over(used: float, wanted: float, limit: float, is_free: bool) -> bool:
    return not is_free and (used >= limit or used + wanted > limit * (1 + 1e-9))


def lets_run(outcome: Outcome | None, on_failure: OnFailure) -> bool:
    return outcome is Outcome.OK or on_failure == "continue"


class Group:
    """Tasks that others await as a whole."""

    __slots__ = ("awaited_by", "is_phase", "members", "name", "remaining")

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_phase = name.startswith(PHASE)
        self.members: list[TaskState] = []
        self.awaited_by: list[TaskState] = []
        self.remaining = 0
