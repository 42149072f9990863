"""One limit key: what is in flight, what is reserved, and when the next call may go out."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from msgspec import Struct

from parallelai.engines.protocol import LimitsEvent
from parallelai.run.limits.adaptive import Adaptive, Taken
from parallelai.run.limits.bucket import Bucket, Mark

START = 20
"""In flight at first, where nothing is known of a key (SCHEDULING, Limits 1)."""

START_TOKENS = 200_000
"""In flight until the first answer: twenty small calls, or a few large ones. More where more start at once."""

_MISLED = 5.0
"""So many refusals, fading, while headers promise room: there is a limit that they do not tell."""

_FADE = 0.98
_SMOOTH = 0.05


class Reservation(Struct):
    """A call in flight: the tokens that were reserved for it. Settled once."""

    tokens: float
    taken: Taken
    requests_mark: Mark | None = None
    tokens_mark: Mark | None = None
    is_settled: bool = False
    is_judged: bool = False
    used: float | None = None  # what it really took, once known


@dataclass(slots=True)
class KeyLimit:
    """The limit of one key. `ceiling` is never passed; `is_fixed`: an engine's own `concurrency`, no adapting.

    `opens` says when a call may go out, `take` sends one, `settle` ends it with its headers and usage, and
    one of `answered`, `refused` and `faltered` says what came of it; the order of the last two steps is free.
    """

    ceiling: int
    start: int = START
    is_fixed: bool = False
    not_before: float = -math.inf
    in_flight: int = 0
    reserved: float = 0.0
    has_answer: bool = False
    requests: Bucket | None = None
    tokens: Bucket | None = None
    peak: int = 0
    usual: float = 0.0  # what is in flight as a rule
    adaptive: Adaptive = field(init=False)
    _misled: float = 0.0
    _last_refusal: float = -math.inf

    def __post_init__(self) -> None:
        if self.ceiling < 1:
            raise ValueError(f"a limit lets at least 1 call out, not {self.ceiling}")
        self.adaptive = Adaptive(self.ceiling if self.is_fixed else self.start, self.ceiling)

    @property
    def has_headers(self) -> bool:
        """Whether the server tells its limits."""
        return self.requests is not None or self.tokens is not None

    @property
    def limit(self) -> int:
        """How many calls may be in flight at once."""
        if self.is_fixed or self.has_headers:
            return self.ceiling
        return self.adaptive.limit

    @property
    def good(self) -> int | None:
        """How many calls at once worked: as many as there were, and what is usual once it was paced."""
        if not self.has_answer:
            return None
        if self.has_headers or self.adaptive.is_paced:
            return max(1, min(self.ceiling, round(self.usual)))
        return max(1, min(self.limit, self.peak))

    def opens(self, now: float, tokens: float) -> float:
        """Give the time at which a call may go out; infinite if only the end of another makes room."""
        if self.in_flight >= self.limit:
            return math.inf
        is_blind = not self.is_fixed and not self.has_answer
        most = START_TOKENS * max(self.start, START) / START
        if is_blind and self.in_flight and self.reserved + tokens > most:
            return math.inf
        times = [now, self.not_before]
        if self.requests is not None:
            times.append(self.requests.opens(now, 1.0))
        if self.tokens is not None:
            times.append(self.tokens.opens(now, tokens))
        if not self.is_fixed:
            times.append(self.adaptive.opens(now, tokens))
        return max(times)

    def take(self, now: float, tokens: float) -> Reservation:
        """Send a call: reserve what it will take."""
        tokens = max(0.0, tokens)
        taken = self.adaptive.take(now, tokens, self.in_flight)
        self.in_flight += 1
        self.reserved += tokens
        self.peak = max(self.peak, self.in_flight)
        self.usual += (self.in_flight - self.usual) * (_SMOOTH if self.usual else 1.0)
        return Reservation(
            tokens,
            taken,
            self.requests.take(now, 1.0) if self.requests is not None else None,
            self.tokens.take(now, tokens) if self.tokens is not None else None,
        )

    def settle(
        self, reservation: Reservation, now: float, used: float | None, limits: LimitsEvent | None
    ) -> bool:
        """End a call: what was reserved beyond what it `used` is given back; says whether a limit changed.

        `used` None is unknown: it counts as reserved, unless the call turns out to have been refused.
        """
        if reservation.is_settled:
            return False
        reservation.is_settled = True
        self.in_flight -= 1
        self.reserved = self.reserved - reservation.tokens if self.in_flight else 0.0
        if used is not None:
            reservation.used = used
            self._give_back(reservation, reservation.tokens - used)
        return False if limits is None else self._sync(reservation, limits, now)

    def answered(self, reservation: Reservation | None, is_first_try: bool = True) -> bool:
        """Take in that a call was answered well; says whether the limit grew."""
        self.has_answer = True
        self._misled *= _FADE
        if reservation is not None:
            if reservation.is_judged:
                return False
            reservation.is_judged = True
        return is_first_try and not self.is_fixed and not self.has_headers and self.adaptive.answered()

    def refused(self, now: float, reservation: Reservation | None, wait: float | None) -> bool:
        """Take in a 429 (or 529); `wait` is Retry-After in seconds. Says whether it told anything new."""
        self.has_answer = True
        if wait is not None and wait > 0:
            self.not_before = max(self.not_before, now + wait)
        if reservation is None or reservation.is_judged:
            return False
        reservation.is_judged = True
        if reservation.used is None and reservation.tokens_mark is not None and self.tokens is not None:
            self.tokens.give_back(reservation.tokens)  # the paces count it as refused
        if self.is_fixed:
            return False
        if self.has_headers and not self._is_misled(now, reservation):
            return False
        return self.adaptive.refused(now, reservation.taken)

    def faltered(self, reservation: Reservation | None) -> None:
        """Take in a failure of the server (5xx, a time-out): growth pauses, nothing is cut."""
        if reservation is not None:
            reservation.is_judged = True
        self.adaptive.faltered()

    def _is_misled(self, now: float, reservation: Reservation) -> bool:
        """Empty the buckets on a refusal that they may explain; say whether headers no longer explain refusals."""
        if self.adaptive.is_paced:
            return True
        if reservation.taken.at <= self._last_refusal:
            return False
        self._last_refusal = now
        self._misled += 1.0
        for bucket in (self.requests, self.tokens):
            if bucket is not None:
                bucket.refuse(now)
        return self._misled > _MISLED

    def _give_back(self, reservation: Reservation, amount: float) -> None:
        self.adaptive.tokens.give_back(amount)
        if self.tokens is not None and reservation.tokens_mark is not None:
            self.tokens.give_back(amount)

    def _sync(self, reservation: Reservation, limits: LimitsEvent, now: float) -> bool:
        cost = reservation.tokens if reservation.used is None else reservation.used
        had = self.has_headers
        taken, adaptive = reservation.taken, self.adaptive
        changed = False
        if self.requests is None:
            after = adaptive.requests.total - taken.requests.total - 1.0
            self.requests = Bucket.of(limits.requests, now, taken.at, max(0.0, after))
        elif limits.requests is not None:
            changed = self.requests.sync(limits.requests, reservation.requests_mark, 1.0, now)
        if self.tokens is None:
            after = adaptive.tokens.total - taken.tokens.total - taken.tokens.cost
            self.tokens = Bucket.of(limits.tokens, now, taken.at, max(0.0, after))
        elif limits.tokens is not None:
            changed |= self.tokens.sync(limits.tokens, reservation.tokens_mark, cost, now)
        return changed or had != self.has_headers
