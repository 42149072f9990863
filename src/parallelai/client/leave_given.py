"""Leave that a person gave after the run ended which waited for it: said where the run is shown."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from parallelai.records import ErrorRecord, Outcome, RunDocument, TaskResult, changed
from parallelai.run.approving import UNMET, Leave
from parallelai.work.streams.registry import Streams

GIVEN = "it waited for a person's leave, and has it now"


def with_leave(document: RunDocument, leave: Callable[[str], Leave], streams: Streams) -> RunDocument:
    """Say of tasks and workstreams that ended because nobody gave leave, that somebody did since.

    `leave` folds the events of a run; is called only where something waits.
    """
    waiting = [row for row in document.tasks if _waits(row)]
    if not waiting:
        return document
    known = leave(document.run)
    given = {row.id for row in waiting if _is_given(row, known, streams)}
    rows = tuple(_told(row, document.run) if row.id in given else row for row in document.tasks)
    return dataclasses.replace(document, tasks=rows) if given else document


def _waits(row: TaskResult) -> bool:
    return row.status is Outcome.BLOCKED and row.error is not None and row.error.said.startswith(UNMET)


def _is_given(row: TaskResult, leave: Leave, streams: Streams) -> bool:
    if row.workstream is None:
        return leave.is_given(row.id)
    stream = streams.get(row.id)
    return stream is not None and stream.is_approved


def _told(row: TaskResult, run: str) -> TaskResult:
    where = row.error.where if row.error is not None else None
    error = ErrorRecord("unavailable", GIVEN, where, f"`parallelai runs resume {run}` goes on with it")
    return changed(row, error=error)
