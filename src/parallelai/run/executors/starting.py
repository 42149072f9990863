"""How many assistants' programs start up at once.

Each takes a core for seconds before its session is open. Where all start at once, all are ready only when the last one
is, and the machine is of no use meanwhile; where some do, those that are ready wait for their models while others
start.
"""

from __future__ import annotations

import asyncio
import functools
import heapq
import itertools
from collections.abc import Callable

MOST_SECONDS = 30.0
"""A start that takes longer holds up nobody else."""

Opened = Callable[[], None]
"""Says that a start is over; to be called at least once, and more often does no harm."""


class Starts:
    """Lets `most` programs start up at once; of those that wait, the largest first, since it takes longest."""

    def __init__(self, most: int) -> None:
        self._free = most
        self._is_held = False
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()
        self._starting: set[int] = set()

    async def begin(self, size: int) -> Opened:
        """Wait until a program of that size (in bytes of memory) may start."""
        number = next(self._numbers)
        turn = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (-size, number, turn))
        self._grant()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # its turn came with the cancel
                self._give_back()
            raise
        self._starting.add(number)
        opened = functools.partial(self._opened, number)
        asyncio.get_running_loop().call_later(MOST_SECONDS, opened)
        return opened

    def hold(self, is_held: bool) -> None:
        """Let nothing start until it is called with False; who waits goes on waiting."""
        self._is_held = is_held
        self._grant()

    def _opened(self, number: int) -> None:
        if number in self._starting:
            self._starting.remove(number)
            self._give_back()

    def _give_back(self) -> None:
        self._free += 1
        self._grant()

    def _grant(self) -> None:
        while self._waiting and self._free and not self._is_held:
            turn = heapq.heappop(self._waiting)[2]
            if not turn.done():
                self._free -= 1
                turn.set_result(None)
