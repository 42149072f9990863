"""Watch a run while it goes on: every change in a run is an event."""

import asyncio
from collections.abc import Sequence

from parallelai import AsyncParallelAI, Event


def watch(events: Sequence[Event]) -> None:
    """Called with events, in order, once they are on disk."""
    for event in events:
        if event.type in ("attempt.started", "task.ended"):
            print(event.type, event.task)


async def main() -> None:
    """Carry out a plan, given as plain data."""
    plan = {
        "engines": {"echo": {"use": "command", "command": ["cat"]}},
        "tasks": [
            {"id": "first", "description": "Say something.", "engine": "echo"},
            {"id": "second", "description": "Say it again.", "engine": "echo", "depends_on": ["first"]},
        ],
    }
    async with AsyncParallelAI() as ai:
        result = await ai.execute(plan, on_events=watch)
    print(result.outcome)


asyncio.run(main())
