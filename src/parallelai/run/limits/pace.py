"""The rate at which a server lets calls in, estimated from what it took and what it refused.

A refusal (429) says that the server's bucket was nearly empty when the call came. So what was let in between
two refusals is what flowed in between them: rate = admitted / time, off by one call at either end. A filter
joins such measurements (a one-dimensional Kalman filter on the logarithm of the rate), and calls go out a
little faster than the rate, more so the longer nothing was refused: that keeps the bucket near empty, which
wastes nothing, at the price of one refusal in about thirty calls, and finds a limit that was raised.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

LEAST_CALLS = 4.0
"""A stretch between two refusals with fewer calls than this measures nothing."""

_END_ERROR = 0.6  # standard deviation of a stretch, in calls: the bucket was not quite empty at its ends
_FLOOR = 1e-4  # variance of a measurement that does not shrink with its length
_DRIFT = 3e-5  # variance that the rate gains with each call
_SURPRISE = 4.0  # squared distance, in variances, beyond which the rate itself has changed
_UNSURE = 1.0  # variance of the first guess
_HASTE = 0.0014  # how much faster than the rate each call without a refusal makes the next
_LATE_CALLS = 35
_HURRY_CALLS = 15.0
_HURRY_SECONDS = 5.0
_BLEND = 0.25
_NEAR = 0.15
_DOUBT = 0.3
_UNSURE_HASTE = 1000.0
_FIRST_SECONDS = 2.0
_BURST_SECONDS = 2.0  # how much of the rate an idle time may save up


@dataclass(frozen=True, slots=True)
class Sent:
    """Where a pace stood when a call went out: `total` is what had gone out before it."""

    at: float
    cost: float
    total: float


class Pace:
    """Credit that grows at the estimated rate, in one unit (requests or tokens)."""

    __slots__ = (
        "_anchor",
        "_anchor_total",
        "_at",
        "_calls",
        "_late_at",
        "_sent",
        "credit",
        "error",
        "rate",
        "refused",
        "total",
        "variance",
    )

    def __init__(self) -> None:
        self.total = 0.0  # sent so far, refused calls included
        self.refused = 0.0
        self.rate: float | None = None  # a second; None until something was refused
        self.variance = _UNSURE
        self.error = 0.0  # mean squared surprise: which unit explains the refusals
        self.credit = 0.0
        self._at = 0.0
        self._sent = 0
        self._late_at = 0.0
        self._calls = 0  # since the last stretch began
        self._anchor: float | None = None
        self._anchor_total = 0.0

    @property
    def mean_cost(self) -> float:
        """What a call takes on average; 1 before the first."""
        return self.total / self._sent if self._sent else 1.0

    def speed(self) -> float:
        """Give the rate at which calls go out now: the estimate, and haste."""
        assert self.rate is not None
        calls = self._calls
        haste = _HASTE * calls * (1.0 + _UNSURE_HASTE * self.variance)
        if calls > _LATE_CALLS:
            late = min((calls - _LATE_CALLS) / _HURRY_CALLS, (self._at - self._late_at) / _HURRY_SECONDS)
            haste *= math.exp(min(late, 50.0))
        return self.rate * (1.0 + haste)

    def opens(self, now: float, cost: float) -> float:
        """Give the time at which a call of this cost may go out."""
        if self.rate is None:
            return now
        self._refill(now)
        short = min(cost, self._most()) - self.credit
        return now if short <= 0 else now + short / self.speed()

    def take(self, now: float, cost: float) -> Sent:
        """Count a call that goes out."""
        sent = Sent(now, cost, self.total)
        if self.rate is not None:
            self._refill(now)
            self.credit = max(self.credit - cost, -self._most())
        self.total += cost
        self._sent += 1
        self._calls += 1
        if self._calls == _LATE_CALLS:
            self._late_at = now
        return sent

    def give_back(self, amount: float) -> None:
        """Take back what a call did not use (negative: what it used beyond)."""
        self.credit += amount
        self.total -= amount

    def forget(self, sent: Sent) -> None:
        """Count a refused call that says nothing new, because it was on its way when another was refused."""
        self.refused += sent.cost

    def refuse(self, sent: Sent, now: float, wait: float | None) -> None:
        """Learn from a refused call. `wait` is when the server said it could be made."""
        point = sent.total - self.refused
        self.refused += sent.cost
        self._at = max(self._at, now)
        self._learn(point, sent.at, now)
        self._calls = 0
        assert self.rate is not None
        self.credit = min(self.credit, 0.0 if wait is None else max(0.0, sent.cost - self.rate * wait))

    def _learn(self, point: float, at: float, now: float) -> None:
        if self._anchor is None or self.rate is None:
            self.rate = min(
                max(point, self.mean_cost) / max(at, _FIRST_SECONDS) * 0.7,
                self.mean_cost / max(now - at, 0.05),
            )
            self._begin(point, at)
            return
        admitted, seconds = point - self._anchor_total, at - self._anchor
        calls = admitted / self.mean_cost
        if calls < LEAST_CALLS or seconds <= 0:
            return
        measured = admitted / seconds
        ahead = max(0.0, math.log(self.speed() / measured))
        self._join(math.log(measured) + _BLEND * min(ahead, _NEAR), calls)
        self.variance = max(self.variance, (_DOUBT * ahead) ** 2)
        self._begin(point, at)

    def _join(self, measured: float, calls: float) -> None:
        assert self.rate is not None
        known = math.log(self.rate)
        off = measured - known
        noise = (_END_ERROR / calls) ** 2 + _FLOOR
        self.error += 0.3 * (off * off - self.error)
        variance = self.variance + _DRIFT * calls
        if off * off > _SURPRISE * (variance + noise):
            variance += off * off
        gain = variance / (variance + noise)
        self.rate = math.exp(known + gain * off)
        self.variance = variance * (1.0 - gain)

    def _begin(self, point: float, at: float) -> None:
        self._anchor, self._anchor_total, self._calls = at, point, 0

    def _most(self) -> float:
        assert self.rate is not None
        return max(self.rate * _BURST_SECONDS, self.mean_cost)

    def _refill(self, now: float) -> None:
        if now > self._at:
            self.credit = min(self._most(), self.credit + self.speed() * (now - self._at))
            self._at = now
