"""How the parts of a run write its journal."""

from __future__ import annotations

from typing import Protocol

from parallelai.events import Event, EventData


class Append(Protocol):
    """Write an event down (`RunWriter.append`)."""

    def __call__(self, data: EventData, *, task: str | None = None, attempt: int | None = None) -> Event: ...
