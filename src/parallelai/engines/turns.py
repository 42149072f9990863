"""What the turns of all clients have in common, whatever they speak."""

from __future__ import annotations

from collections.abc import Sequence

from parallelai.engines.protocol import EngineEvent, TextEvent
from parallelai.errors import EngineError, ProgramError


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


def first_error(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that counts of a group: an engine's or a program's before any other, however deep it lies."""
    found: list[BaseException] = []
    todo: list[BaseException] = [errors]
    while todo:
        error = todo.pop(0)
        if isinstance(error, BaseExceptionGroup):
            todo += error.exceptions
        else:
            found.append(error)
    return next((error for error in found if isinstance(error, EngineError | ProgramError)), found[0])
