"""What the turns of all clients have in common, whatever they speak."""

from __future__ import annotations

from collections.abc import Sequence

from parallelai.engines.protocol import EngineEvent, TextEvent


def joined(events: Sequence[EngineEvent]) -> list[EngineEvent]:
    """Put pieces of text that follow each other together."""
    result: list[EngineEvent] = []
    for event in events:
        last = result[-1] if result else None
        if isinstance(event, TextEvent) and isinstance(last, TextEvent):
            result[-1] = TextEvent(last.delta + event.delta)
        else:
            result.append(event)
    return result
