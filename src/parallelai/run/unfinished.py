"""Where the tasks of a run stand that have not ended, folded from its events."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from parallelai.events import AttemptEnded, AttemptReserved, Event, RunStarted, TaskStep
from parallelai.run.report import Report

WAITING = ("waiting", "queued")
"""Stages in which nobody does anything for a task."""


class Unfinished(Struct, frozen=True):
    """A task that has not ended, and where it stands, in a few words.

    `is_at_work`: somebody does it, if anybody carries the run out; the others wait.
    """

    task: str
    state: str
    is_at_work: bool = False


def unfinished(events: Iterable[Event]) -> tuple[Unfinished, ...]:
    """List the tasks of a run that have not ended, in plan order."""
    report = Report()
    states: dict[str, str] = {}
    at_work: set[str] = set()
    for event in events:
        report.take(event)
        if isinstance(event.data, RunStarted):
            states.clear()  # what an earlier process had under way is not under way any more
            at_work.clear()
        elif event.task is not None and (state := _state(event)) is not None:
            states[event.task] = state
            (at_work.add if _is_at_work(event.data) else at_work.discard)(event.task)
    return tuple(
        Unfinished(task, states[task], is_at_work=task in at_work)
        if task in states
        else Unfinished(task, "not started")
        for task in report.order
        if task not in report.results
    )


def _state(event: Event) -> str | None:
    match event.data:
        case AttemptReserved() as data:
            return f"in attempt {event.attempt} (`{data.engine}`)"
        case AttemptEnded(error=error) if error is not None:
            return f"after attempt {event.attempt}: {error.kind}"
        case AttemptEnded():
            return f"after attempt {event.attempt}"
        case TaskStep() as data:
            return data.stage
    return None


def _is_at_work(data: object) -> bool:
    return isinstance(data, AttemptReserved) or (isinstance(data, TaskStep) and data.stage not in WAITING)
