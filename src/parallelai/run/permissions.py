"""What attempts may ask of the run that they are part of: leave for a call, and answers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from parallelai.engines.protocol import Answer, LimitsEvent, Permit, Question
from parallelai.records import LimitKey, Usage
from parallelai.run.executors.base import AttemptId


class _Slot:
    """A permit that holds one place of its key's semaphore until it is settled."""

    def __init__(self, places: asyncio.Semaphore) -> None:
        self._places: asyncio.Semaphore | None = places

    async def settle(self, usage: Usage | None = None, limits: LimitsEvent | None = None) -> None:
        places, self._places = self._places, None
        if places is not None:  # settling twice gives back one place
            places.release()


class LocalCoordinator:
    """Gives leave for calls, at most `parallel` (or an engine's own `concurrency`) at once for each key.

    Attempts already hold a slot of the scheduler; this bounds engines that make several calls in one turn.
    """

    def __init__(self, parallel: int, concurrency: Mapping[str, int]) -> None:
        self._parallel = parallel
        self._concurrency = concurrency
        self._places: dict[LimitKey, asyncio.Semaphore] = {}

    async def permit(self, id: AttemptId, key: LimitKey, tokens: int) -> Permit:
        places = self._places.get(key)
        if places is None:
            most = self._concurrency.get(key.engine, self._parallel)
            places = self._places[key] = asyncio.Semaphore(most)
        await places.acquire()
        return _Slot(places)

    async def ask(self, id: AttemptId, question: Question) -> Answer:
        """Deny: no engine of this version works in a workspace, so there is nothing that could be allowed."""
        denials = [option for option in question.options if "deny" in option or "reject" in option]
        return Answer(denials[0] if denials else "deny", by="policy")
