"""Where the tasks of a run stand that have not ended, folded from its events."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from parallelai.events import AttemptEnded, AttemptReserved, Event, RunStarted, TaskStep
from parallelai.run.report import Report


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A task that has not ended, and where it stands, in a few words."""

    task: str
    state: str


def unfinished(events: Iterable[Event]) -> tuple[Unfinished, ...]:
    """List the tasks of a run that have not ended, in plan order."""
    report = Report()
    states: dict[str, str] = {}
    for event in events:
        report.take(event)
        if isinstance(event.data, RunStarted):
            states.clear()  # what an earlier process had under way is not under way any more
        elif event.task is not None and (state := _state(event)) is not None:
            states[event.task] = state
    waiting = (task for task in report.order if task not in report.results)
    return tuple(Unfinished(task, states.get(task, "not started")) for task in waiting)


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
