"""The rate at which a server without limit headers lets calls in, estimated from what it refused.

A refusal (429) says that the server's bucket was nearly empty when the call came. So what was let in between
two refusals is what flowed in between them: rate = admitted / time, off by about one call at the ends. A
one-dimensional Kalman filter on the rate's logarithm joins such measurements. Calls go out a little faster
than the rate, more so the longer nothing was refused: that keeps the server's bucket near empty, which wastes
nothing, costs a refusal in 25 to 30 calls, and finds a limit that was raised.

Where the server's bucket holds few calls, what is paced below the rate is lost, and the truth lies between
the measurement and the speed at which the refusal came; how far these two are apart is kept as doubt.
"""

from __future__ import annotations

import math

from msgspec import Struct

LEAST_CALLS = 4.0
"""A stretch between two refusals with fewer calls than this measures nothing."""

SLOWEST_SECONDS = 60.0
"""There is always progress: at least one average call in this time."""

# The filter; variances are of the logarithm of the rate.
_UNSURE = 1.0  # of the first guess
_END_ERROR = 0.6  # standard deviation of a measurement, in calls: the bucket was not quite empty at the ends
_FLOOR = 1e-4  # of a measurement, however long
_DRIFT = 3e-5  # gained with each call
_SURPRISE = 4.0  # squared distance, in variances, beyond which the rate itself has changed
_BLEND, _NEAR = 0.25, 0.15  # how far to go from the measurement to the speed at the refusal, and at most
_DOUBT = 0.3  # of the distance between the two, as standard deviation
_CUT, _CUT_DOUBT = 0.75, 0.02  # for refusals that follow each other too soon to measure anything

# Haste: how much faster than the rate calls go out.
_HASTE = 0.0014  # for each call since the last refusal: their sum is one call after about 35
_UNSURE_HASTE = 200.0  # times the variance
_LATE_CALLS = 35  # from here on the rate was raised, or never found: haste grows exponentially,
_HURRY_CALLS, _HURRY_SECONDS = 15.0, 5.0  # by e in so many calls, but not in less time

_FIRST_SHARE, _FIRST_SECONDS = 0.7, 2.0
_LOOK_SECONDS = 2.0  # at most so long after the first refusal, to see what else was refused
_LOOK_ERRORS, _LOOK_VARIANCE = 1.5, 4.0
_BURST_SECONDS = 2.0  # how much of the rate an idle time may save up,
_BURST_VARIANCE = 0.05  # once it is known so well


class Sent(Struct, frozen=True):
    """Where a pace stood when a call went out: `total` is what had gone out before it."""

    at: float
    cost: float
    total: float


class Pace:
    """Credit that grows at the estimated rate, in one unit (requests, or tokens)."""

    __slots__ = (
        "_anchor",
        "_anchor_total",
        "_at",
        "_began",
        "_calls",
        "_first",
        "_hold",
        "_last_at",
        "_late_at",
        "_looks_at",
        "_refused",
        "_sent",
        "_short",
        "credit",
        "factor",
        "least",
        "rate",
        "total",
        "variance",
    )

    def __init__(self) -> None:
        self.rate: float | None = None  # a second; None until something was refused
        self.variance = _UNSURE
        self.credit = 0.0
        self.least = 0.0  # calls a second, on the average, below which the rate never is
        self.factor: float | None = None  # what the rate is multiplied by for a trial, in the place of haste
        self.total = 0.0  # sent so far, refused calls included
        self._refused = 0.0
        self._sent = 0
        self._calls = 0  # since the last refusal
        self._short = 0  # refusals in this stretch that measured nothing
        self._at = 0.0
        self._late_at = 0.0
        self._began: float | None = None
        self._first: Sent | None = None  # the earliest call that was refused at first
        self._hold = 0.0
        self._looks_at = -math.inf  # when what was on its way at the first refusal is known
        self._last_at = 0.0
        self._anchor = 0.0  # when this stretch began
        self._anchor_total = 0.0

    @property
    def mean_cost(self) -> float:
        """What a call takes on average; 1 before the first."""
        return max(self.total / self._sent, 1e-9) if self._sent else 1.0

    def speed(self) -> float:
        """Give the rate at which calls go out now: the estimate, and haste; infinite before a refusal."""
        if self.rate is None:
            return math.inf
        if self.factor is not None:
            return self.rate * self.factor
        haste = _HASTE * self._calls * (1.0 + _UNSURE_HASTE * self.variance)
        if self._calls > _LATE_CALLS:
            calls, seconds = self._calls - _LATE_CALLS, self._at - self._late_at
            haste *= math.exp(min(calls / _HURRY_CALLS, seconds / _HURRY_SECONDS, 50.0))
        return self.rate * (1.0 + haste)

    def opens(self, now: float, cost: float) -> float:
        """Give the time at which a call of this cost may go out."""
        if self.rate is None:
            return now
        if now < self._looks_at:
            return self._looks_at
        self._refill(now)
        short = min(cost, self._most()) - self.credit
        return now if short <= 0 else now + short / self.speed()

    def take(self, now: float, cost: float) -> Sent:
        """Count a call that goes out."""
        sent = Sent(now, cost, self.total)
        if self._began is None:
            self._began = now
        if self.rate is not None:
            self._refill(now)
            self.credit = max(self.credit - cost, -self._most())
        self._last_at = now
        self.total += cost
        self._sent += 1
        self._calls += 1
        if self._calls == _LATE_CALLS:
            self._late_at = now
        return sent

    def give_back(self, amount: float) -> None:
        """Take back what a call did not use (negative: what it used beyond)."""
        if self.rate is not None:
            self.credit = min(self.credit + amount, self._most())
        self.total = max(0.0, self.total - amount)

    def forget(self, sent: Sent) -> None:
        """Count a refused call that says nothing new: it was on its way when another was refused."""
        self._refused += sent.cost
        if self._first is not None and sent.total < self._first.total:
            self._first = sent

    def refuse(self, sent: Sent, now: float) -> None:
        """Learn from a refused call."""
        point = sent.total - self._refused
        self._refused += sent.cost
        self._at = max(self._at, now)
        rate = self._guess(point, sent, now) if self.rate is None else self._learn(self.rate, point, sent.at)
        self.rate = max(rate, self.mean_cost * max(self.least, 1.0 / SLOWEST_SECONDS))
        self._calls = 0
        self.credit = min(self.credit, 0.0)

    def go_on(self, now: float, faster: float) -> None:
        """Begin to measure anew, at a pace that is so many times faster."""
        if self.rate is not None:
            self.rate *= faster
            self._begin(self.total - self._refused, now)
            self._at, self._calls, self.credit = now, 0, 0.0

    def _guess(self, point: float, sent: Sent, now: float) -> float:
        """Begin low: what went out so far came from a full bucket; and one call in the time of a refusal."""
        began = self._began if self._began is not None else now
        so_far = max(point, self.mean_cost) / max(sent.at - began, _FIRST_SECONDS) * _FIRST_SHARE
        self._begin(point, sent.at)
        self._first = sent
        self._hold = min(now - sent.at, _LOOK_SECONDS)
        self._looks_at = now + self._hold
        return min(so_far, self.mean_cost / max(now - sent.at, 0.05))

    def _look_back(self, rate: float, first: Sent) -> None:
        """Look what became of the calls that were on their way at the first refusal: more may have been let in."""
        calls = (self.total - self._refused - first.total) / self.mean_cost
        sure = calls - _LOOK_ERRORS * math.sqrt(max(calls, 0.0)) - 1.0
        seen = sure * self.mean_cost / max(self._last_at - first.at, self._hold, 1e-3)
        if seen > rate:
            self.rate, self.variance = seen, min(_UNSURE, _LOOK_VARIANCE / calls)

    def _learn(self, rate: float, point: float, at: float) -> float:
        admitted, seconds = point - self._anchor_total, at - self._anchor
        calls = admitted / self.mean_cost
        if calls < LEAST_CALLS or seconds <= 0:
            self._short += 1
            if self._short == 1:
                return rate
            self.variance = max(self.variance, _CUT_DOUBT)
            return rate * _CUT
        measured = math.log(admitted / seconds)
        ahead = max(0.0, math.log(self.speed()) - measured)
        joined = self._join(math.log(rate), measured + _BLEND * min(ahead, _NEAR), calls)
        self.variance = max(self.variance, (_DOUBT * ahead) ** 2)
        self._begin(point, at)
        return joined

    def _join(self, known: float, measured: float, calls: float) -> float:
        off = measured - known
        noise = (_END_ERROR / calls) ** 2 + _FLOOR
        variance = self.variance + _DRIFT * calls
        if off * off > _SURPRISE * (variance + noise):
            variance += off * off
        gain = variance / (variance + noise)
        self.variance = variance * (1.0 - gain)
        return math.exp(known + gain * off)

    def _begin(self, point: float, at: float) -> None:
        self._anchor, self._anchor_total, self._short = at, point, 0

    def _most(self) -> float:
        if self.rate is None or self.variance > _BURST_VARIANCE:
            return self.mean_cost
        return max(self.rate * _BURST_SECONDS, self.mean_cost)

    def _refill(self, now: float) -> None:
        if self._first is not None and self.rate is not None and now >= self._looks_at:
            first, self._first = self._first, None
            self._look_back(self.rate, first)
        if now > self._at:
            self.credit = min(self._most(), self.credit + self.speed() * (now - self._at))
            self._at = now
