"""What the scheduler decides (CONTRACTS §9). Whoever carries it out reports back what came of it.

`now` and `until` are seconds on the clock that the scheduler is given; it has none of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from parallelai.records import ErrorRecord, Outcome

if TYPE_CHECKING:
    from parallelai.engines.protocol import Estimate


class Start(NamedTuple):
    """Start an attempt; its slot and its reservation are taken. Answered by `attempt_ended`.

    `member` is the place in the node's `members`; `attempt` counts a task's attempts from 1, whatever the
    member; `estimate` is what was prepared for that member.
    """

    task: str
    member: int
    attempt: int
    estimate: Estimate


class RunStep(NamedTuple):
    """Carry out one step of a task other than `perform`; its slot is taken. Answered by `step_ended`."""

    task: str
    step: str


class Cancel(NamedTuple):
    """End an attempt (`attempt` 0: the step that is running). It is still answered as if it had ended."""

    task: str
    attempt: int
    why: str


class Finish(NamedTuple):
    """The task has ended; nothing of it is in flight any more. `why` says what decided, in a few words."""

    task: str
    outcome: Outcome
    error: ErrorRecord | None
    why: str


class Wait(NamedTuple):
    """Nothing more can be decided now: ask again when something ended, or at `until` (None: no time is set).

    `why` is what the run is bound by: one of `in_flight`, `parallel`, `phase`, `role`, `concurrency`,
    `batch`, `rate_limited`, `retry`, `memory`, `budget`, `paused`; or `ready`: these decisions made tasks
    ready, so ask again as soon as they are carried out.
    """

    until: float | None
    why: str


Decision = Start | RunStep | Wait | Cancel | Finish
