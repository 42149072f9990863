"""One call warms a provider's cache of prompts, then the others follow (SCHEDULING, Limits 8).

Calls that go out side by side, before the provider has read the beginning that they share, each pay for it in full.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from parallelai.engines.models.servers import SERVERS, known_by
from parallelai.engines.models.wire.records import LEAST_CACHED, Ask

LASTS_SECONDS = 240.0
"""Providers keep what nobody asked for again for five minutes or more."""
MOST_SECONDS = 10.0
"""Longer than this nobody waits: by then the beginning is read, even if its answer still is not there."""


class Warming:
    """Knows which beginnings of prompts the provider at `url` has read of late, and which it is reading.

    A provider that is not known to cache them is never waited for.
    """

    def __init__(self, url: str) -> None:
        known = known_by(url)
        self._caches = known is not None and SERVERS[known].caches
        self._used: dict[str, float] = {}  # when a call with this beginning last went well
        self._first: dict[str, asyncio.Event] = {}  # set when the call that went first has ended

    @asynccontextmanager
    async def turn(self, ask: Ask) -> AsyncIterator[None]:
        """Call inside: at once if this is the first or its beginning is warm, else when the first one has ended.

        A first call that fails holds nobody up.
        """
        clock = asyncio.get_running_loop().time
        beginning = self._beginning(ask)
        is_warm = clock() - self._used.get(beginning, -math.inf) < LASTS_SECONDS
        leads = bool(beginning) and not is_warm and beginning not in self._first
        if leads:
            self._first[beginning] = asyncio.Event()
        elif not is_warm and (first := self._first.get(beginning)):
            with suppress(TimeoutError):
                await asyncio.wait_for(first.wait(), MOST_SECONDS)
        try:
            yield
            if beginning:
                self._used[beginning] = clock()
        finally:
            if leads:
                self._first.pop(beginning).set()

    def _beginning(self, ask: Ask) -> str:
        """What the provider caches of a prompt; empty for nothing."""
        if not self._caches or ask.shared < LEAST_CACHED:
            return ""
        return f"{ask.model}\0{ask.instructions}\0{ask.prompt[: ask.shared]}"
