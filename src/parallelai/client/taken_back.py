"""Landings that were taken back after their run had written them down: said where the run is shown."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable
from typing import Any

from parallelai.events import Event, LandingUndone, TaskEnded
from parallelai.records import RunDocument, TaskResult, changed
from parallelai.work.streams.record import described, is_undone
from parallelai.work.streams.registry import Streams

TYPES = frozenset({LandingUndone.type, TaskEnded.type})
"""The events that tell of landings, and of what became of them."""


def with_undone(
    document: RunDocument, events: Callable[[], Iterable[Event]], streams: Streams
) -> RunDocument:
    """Say of what landed, and was taken back since, that it is not on its target.

    `events` gives those of the run of `TYPES`: of branches without a plan they alone know. They are read only where
    something landed.
    """
    if not any(_landed(row) for row in document.tasks):
        return document
    undone = _undone(events())
    rows = tuple(_as_it_is(row, document.run, undone, streams) for row in document.tasks)
    return dataclasses.replace(document, tasks=rows)


def _undone(events: Iterable[Event]) -> frozenset[str]:
    """The names of those that were taken back, and did not end anew since."""
    found: set[str] = set()
    for event in events:
        if event.task is not None:
            (found.add if isinstance(event.data, LandingUndone) else found.discard)(event.task)
    return frozenset(found)


def _as_it_is(row: TaskResult, run: str, undone: Collection[str], streams: Streams) -> TaskResult:
    if not _landed(row):
        return row
    stream = streams.get(row.id)
    now: dict[str, Any] = {}
    if stream is not None and stream.run == run:
        now = described(stream) if is_undone(stream) else {}
    elif row.id in undone:
        now = {"stage": "undone", "landed": None}
    return changed(row, workstream={**(row.workstream or {}), **now}) if now else row


def _landed(row: TaskResult) -> bool:
    return bool((row.workstream or {}).get("landed"))
