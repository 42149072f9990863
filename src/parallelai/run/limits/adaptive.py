"""A limit that no header tells: doubled until something is refused, then paced at the estimated rate."""

from __future__ import annotations

import math

from msgspec import Struct

from parallelai.run.limits.noise import FASTER, Noise, Ticket
from parallelai.run.limits.pace import Pace, Sent

LEAST_ROUND = 4
"""A round of growth has at least so many clean answers (SCHEDULING, Limits 3)."""

SATURATED = 0.8
"""The share of the limit that a round must have used, to say anything about more."""

_FADE = 0.97
_SURE = 1.0


class Taken(Struct, frozen=True):
    """One call, as both paces saw it go out."""

    at: float
    requests: Sent
    tokens: Sent
    ticket: Ticket


class Adaptive:
    """How many calls may be in flight, and how fast they may follow each other.

    Which unit the server counts is told by what it refuses: of calls that take tokens from a bucket the large
    ones are refused more often, in proportion to their size; where requests are counted, all alike. The sum
    of log(size / mean) over refusals is the logarithm of the likelihood ratio of the two.
    """

    __slots__ = (
        "_answers",
        "_last",
        "_lean",
        "_noise",
        "_peak",
        "by_tokens",
        "ceiling",
        "limit",
        "requests",
        "tokens",
    )

    def __init__(self, start: int, ceiling: int) -> None:
        self.ceiling = ceiling
        self.limit = max(1, min(start, ceiling))
        self.requests = Pace()
        self.tokens = Pace()
        self.by_tokens = True
        self._noise = Noise()
        self._lean = 0.0
        self._last = -math.inf  # when a refusal last came that the calls before did not know of
        self._answers = 0
        self._peak = 0

    @property
    def is_paced(self) -> bool:
        """Whether something was refused, and the rate is estimated since."""
        return self.requests.rate is not None

    @property
    def per_minute(self) -> float | None:
        """How many average calls a minute go out, None while nothing was refused."""
        pace = self._pace()
        return None if pace.rate is None else pace.rate / pace.mean_cost * 60.0

    def opens(self, now: float, tokens: float) -> float:
        """Give the time at which a call may go out, as far as the pace goes."""
        if not self.is_paced:
            return now
        pace = self._pace()
        goes_on = self._noise.paced(self._speed(), now)
        if goes_on is not None:
            self._last = now
        for one in (self.requests, self.tokens):
            if goes_on is not None:
                one.go_on(now, FASTER if goes_on else 1.0)
            one.factor, one.least = self._noise.factor, self._noise.least
        return pace.opens(now, tokens if pace is self.tokens else 1.0)

    def take(self, now: float, tokens: float, in_flight: int) -> Taken:
        """Count a call that goes out; `in_flight` are those before it."""
        self._peak = max(self._peak, in_flight + 1)
        ticket = self._noise.sent(now)
        return Taken(now, self.requests.take(now, 1.0), self.tokens.take(now, tokens), ticket)

    def answered(self) -> bool:
        """Count a clean first-try answer; says whether the limit grew."""
        if self.is_paced:
            return False
        self._answers += 1
        if self._answers < max(self.limit, LEAST_ROUND):
            return False
        is_saturated = self._peak >= SATURATED * self.limit
        self._start_round()
        if not is_saturated or self.limit >= self.ceiling:
            return False
        self.limit = min(self.ceiling, self.limit * 2)
        return True

    def faltered(self) -> None:
        """Count an error of the server: growth pauses, nothing is cut."""
        self._start_round()

    def refused(self, now: float, taken: Taken) -> bool:
        """Learn from a 429; says whether it told anything new."""
        self.limit = self.ceiling  # from here on it is the pace that holds back
        is_of_trial = self._noise.refused(taken.ticket, now - taken.at)
        if is_of_trial or taken.at <= self._last:
            self.requests.forget(taken.requests)
            self.tokens.forget(taken.tokens)
            return False
        self._last = now
        self.requests.refuse(taken.requests, now)
        self.tokens.refuse(taken.tokens, now)
        size = taken.tokens.cost / self.tokens.mean_cost
        self._lean = self._lean * _FADE + math.log(max(size, 1e-3))
        if abs(self._lean) > _SURE:
            self.by_tokens = self._lean > 0
        return True

    def _pace(self) -> Pace:
        return self.tokens if self.by_tokens and self.tokens.total > 0 else self.requests

    def _speed(self) -> float:
        """Calls a second, without haste."""
        pace = self._pace()
        return 0.0 if pace.rate is None else pace.rate / pace.mean_cost

    def _start_round(self) -> None:
        self._answers = self._peak = 0
