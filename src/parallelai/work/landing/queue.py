"""The landing queue: who is ready waits here, and what waits together lands together.

There is no worker: the first that waits lands everyone who has come until then, and the next one those who
came meanwhile. So branches that are ready at the same time share their gate runs, and one alone waits for
nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from parallelai.work.landing.records import Arrival, Candidate

Land = Callable[[Sequence[Candidate]], Awaitable[list[Arrival]]]


class LandingQueue:
    """Lands candidates one batch after another. `land` gives one arrival for each candidate of a batch."""

    def __init__(self, land: Land) -> None:
        self._land = land
        self._turn = asyncio.Lock()
        self._waiting: dict[str, tuple[Candidate, asyncio.Future[Arrival]]] = {}

    async def land(self, candidate: Candidate) -> Arrival:
        """Wait until the candidate has landed, or cannot. Who is cancelled leaves the queue.

        Raises whatever the landing raises for all of a batch.
        """
        future: asyncio.Future[Arrival] = asyncio.get_running_loop().create_future()
        self._waiting[candidate.name] = (candidate, future)
        try:
            while not future.done():
                async with self._turn:
                    if not future.done():
                        await self._land_waiting()
            return future.result()
        finally:
            if self._waiting.get(candidate.name, (None, None))[1] is future:
                del self._waiting[candidate.name]
            if future.done() and not future.cancelled():
                future.exception()  # whoever was cancelled meanwhile does not ask for it

    @property
    def names(self) -> tuple[str, ...]:
        """Who waits now."""
        return tuple(self._waiting)

    async def _land_waiting(self) -> None:
        batch, self._waiting = self._waiting, {}
        try:
            arrivals = await self._land([candidate for candidate, _ in batch.values()])
        except asyncio.CancelledError:
            self._waiting = {**batch, **self._waiting}  # the others are landed by the next of them
            raise
        except Exception as error:  # whatever it was, all who wait have to hear of it
            for _, future in batch.values():
                _settle(future, error)
            return
        for arrival in arrivals:
            _settle(batch[arrival.name][1], arrival)


def _settle(future: asyncio.Future[Arrival], result: Arrival | Exception) -> None:
    if future.done():
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)
