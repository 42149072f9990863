"""Leave for calls: who may send one now, by the limits of its key (SCHEDULING, Limits).

Attempts ask for a permit before each call and settle it after; what came of the call is known when the
attempt ends. Waiting for a permit is no work: the executor stops the attempt's clocks meanwhile.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Mapping
from typing import Protocol

from msgspec import Struct, field

from parallelai.engines.protocol import Answer, LimitsEvent, Permit, Question
from parallelai.errors import ParallelAIError, RateLimited
from parallelai.events import LimitChanged
from parallelai.records import LimitKey, Usage
from parallelai.run.executors.base import AttemptId
from parallelai.run.limits.key import KeyLimit, Reservation
from parallelai.run.limits.keys import Keys
from parallelai.run.scheduling.nodes import AttemptResult

LEAST_NEAR = 4
"""So many attempts of a key may be started beyond those that make a call, so that no free place waits."""

LEAST_HOLD_SECONDS, MOST_HOLD_SECONDS = 0.05, 60.0
"""How long a refused call waits by itself, at first and at most, where the server did not say."""


class LastGood(Protocol):
    """What lasts of a key's limit, in calls at once; `store.Machine` is one."""

    def last_good_limit(self, key: LimitKey) -> int | None: ...
    def keep_limit(self, key: LimitKey, limit: int) -> None: ...


class _Waiting(Struct):
    """An attempt that waits for its turn."""

    tokens: float
    granted: asyncio.Future[Reservation]


class _Queue(Struct):
    """Who waits for a permit of one key, first come, first served."""

    waiting: deque[_Waiting] = field(default_factory=deque)
    timer: asyncio.TimerHandle | None = None
    is_crowded: bool = False  # starts were held back; say when there is room


def _too_long(key: LimitKey, seconds: float) -> RateLimited:
    said = f"`{key.engine}` lets no call out for {seconds:.0f} s, which is longer than `max_wait` allows"
    return RateLimited(
        said, retry_after_seconds=seconds, next="resume the run later, or raise `limits: {max_wait}`"
    )


class _Call:
    """A permit that is held until it is settled, once."""

    __slots__ = ("_coordinator", "_id", "_key", "_reservation")

    def __init__(
        self, coordinator: LocalCoordinator, id: AttemptId, key: LimitKey, reservation: Reservation
    ) -> None:
        self._coordinator = coordinator
        self._id = id
        self._key = key
        self._reservation = reservation

    async def settle(self, usage: Usage | None = None, limits: LimitsEvent | None = None) -> None:
        self._coordinator.settled(self._id, self._key, self._reservation, usage, limits)


class LocalCoordinator:
    """Gives leave for calls, key by key, in the order in which it is asked.

    Args:
        parallel: the ceiling of every key.
        concurrency: an engine's own ceiling, which is fixed.
        max_wait_seconds: how long a permit may be waited for; who would wait longer gets `RateLimited`.
        memory: what was learned before, and where to keep what is learned.
        is_local: whether a key is of a server on this machine, beside those whose address says so.
        on_change: is told of every change of a limit.
        on_room: is called when attempts may start again that `is_crowded` held back.
    """

    def __init__(
        self,
        parallel: int,
        concurrency: Mapping[str, int],
        *,
        max_wait_seconds: float = math.inf,
        memory: LastGood | None = None,
        is_local: Callable[[LimitKey], bool] = lambda _: False,
        on_change: Callable[[LimitChanged], None] = lambda _: None,
        on_room: Callable[[], None] = lambda: None,
    ) -> None:
        self._memory = memory
        self._max_wait_seconds = max_wait_seconds
        self._keys = Keys(parallel, concurrency, self._last_good, is_local, on_change)
        self._queues: dict[LimitKey, _Queue] = {}
        self._calls: dict[AttemptId, list[tuple[LimitKey, Reservation]]] = {}  # settled, but not judged
        self._on_room = on_room

    # ------------------------------------------------------------------ permits

    async def permit(self, id: AttemptId, key: LimitKey, tokens: int) -> Permit:
        """Wait for leave to make one call, and reserve what it will take.

        Raises `RateLimited` where the key lets nothing out for longer than may be waited.
        """
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = _Queue()
        if not queue.waiting:
            limit, now = self._keys[key], self._now()
            if limit.opens(now, tokens) <= now:
                return _Call(self, id, key, limit.take(now, tokens))
        waiting = _Waiting(tokens, asyncio.get_running_loop().create_future())
        queue.waiting.append(waiting)
        self._serve(key, queue)
        try:
            reservation = await waiting.granted
        except asyncio.CancelledError:
            self._give_up(key, queue, waiting)
            raise
        return _Call(self, id, key, reservation)

    def settled(
        self,
        id: AttemptId,
        key: LimitKey,
        reservation: Reservation,
        usage: Usage | None,
        limits: LimitsEvent | None,
    ) -> None:
        """Take back a permit with what the answer said; settling twice counts once."""
        if reservation.is_settled:
            return
        now = self._now()
        self._keys.settle(key, reservation, now, None if usage is None else usage.tokens, limits)
        if usage is not None:
            self._keys.answered(key, reservation, id.attempt == 1, now)
        else:
            self._calls.setdefault(id, []).append((key, reservation))
        self._serve(key, self._queues[key])

    def judged(self, id: AttemptId, result: AttemptResult) -> AttemptResult:
        """Take in what came of an attempt's calls; gives the result with the pause that its key now needs."""
        calls = self._calls.pop(id, [])
        kind = None if result.error is None else result.error.kind
        pause = result.retry_after_seconds
        for key, reservation in calls:
            self._judge(key, reservation, result.ok, kind, pause, id.attempt == 1)
            self._serve(key, self._queues[key])
        if kind != "rate_limited" or not calls or result.is_quota or (pause is not None and pause > 0):
            return result
        if self._keys[calls[-1][0]].is_fixed:  # the scheduler's own rule holds the key back
            return result
        hold = min(MOST_HOLD_SECONDS, LEAST_HOLD_SECONDS * id.attempt**2)
        return result._replace(retry_after_seconds=hold, is_alone=True)

    def hold(self, key: LimitKey, seconds: float) -> None:
        """Let no call of a key out for so long: one of its sessions waits for its provider."""
        limit = self._keys.get(key)
        if limit is not None:
            limit.refused(self._now(), None, seconds)

    def _judge(
        self,
        key: LimitKey,
        reservation: Reservation | None,
        ok: bool,
        kind: str | None,
        wait: float | None,
        is_first_try: bool,
    ) -> None:
        now = self._now()
        if kind == "rate_limited":
            self._keys.refused(key, reservation, wait, now)
        elif kind in ("transient", "timed_out"):
            self._keys.faltered(key, reservation)
        elif ok or kind is not None:  # else it was cancelled, which says nothing
            self._keys.answered(key, reservation, ok and is_first_try, now)

    def _serve(self, key: LimitKey, queue: _Queue) -> None:
        """Let go who may, and look again when the next one may."""
        if queue.timer is not None:
            queue.timer.cancel()
            queue.timer = None
        limit, now = self._keys[key], self._now()
        while queue.waiting:
            first = queue.waiting[0]
            if first.granted.done():  # cancelled
                queue.waiting.popleft()
                continue
            opens = limit.opens(now, first.tokens)
            if math.isfinite(opens) and opens - now > self._max_wait_seconds:
                queue.waiting.popleft()
                first.granted.set_exception(_too_long(key, opens - now))
                continue
            if opens > now:
                if math.isfinite(opens):
                    loop = asyncio.get_running_loop()
                    queue.timer = loop.call_later(opens - now, self._serve, key, queue)
                break
            queue.waiting.popleft()
            first.granted.set_result(limit.take(now, first.tokens))
        if queue.is_crowded and len(queue.waiting) < self._near(limit):
            queue.is_crowded = False
            self._on_room()

    def _give_up(self, key: LimitKey, queue: _Queue, waiting: _Waiting) -> None:
        """An attempt was cancelled while it waited, or just when its turn had come."""
        if waiting.granted.done() and not waiting.granted.cancelled() and waiting.granted.exception() is None:
            self._keys.settle(key, waiting.granted.result(), self._now(), 0.0, None)
        elif waiting in queue.waiting:
            queue.waiting.remove(waiting)
        self._serve(key, queue)

    # ------------------------------------------------------------------ what starts

    def is_crowded(self, key: LimitKey, started: int) -> bool:
        """Say whether enough attempts of a key are started (`started` are in flight) for the calls it allows.

        Of engines that ask for no permits nothing is known here, and nothing is held back.
        """
        queue = self._queues.get(key)
        if queue is None:
            return False
        limit = self._keys[key]
        if started - limit.in_flight < self._near(limit):
            return False
        if len(queue.waiting) < self._near(limit):
            return False  # they do something else than to wait
        queue.is_crowded = True
        return True

    @staticmethod
    def _near(limit: KeyLimit) -> int:
        return max(LEAST_NEAR, limit.limit // 4) if not limit.adaptive.is_paced else LEAST_NEAR

    # ------------------------------------------------------------------ what lasts

    def close(self) -> dict[LimitKey, int]:
        """Stop looking; gives how many calls at once worked, by key, for `keep`."""
        for queue in self._queues.values():
            if queue.timer is not None:
                queue.timer.cancel()
                queue.timer = None
        return self._keys.good()

    def keep(self, good: Mapping[LimitKey, int]) -> None:
        """Keep what was learned. What cannot be kept is lost: the next run learns it again."""
        for key, limit in good.items():
            try:
                if self._memory is not None and self._memory.last_good_limit(key) != limit:
                    self._memory.keep_limit(key, limit)
            except ParallelAIError:
                return

    def _last_good(self, key: LimitKey) -> int | None:
        try:
            return None if self._memory is None else self._memory.last_good_limit(key)
        except ParallelAIError:  # no reason not to begin
            return None

    async def ask(self, id: AttemptId, question: Question) -> Answer:
        """Deny: no engine of this version works in a workspace, so there is nothing that could be allowed."""
        denials = [option for option in question.options if "deny" in option or "reject" in option]
        return Answer(denials[0] if denials else "deny", by="policy")

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
