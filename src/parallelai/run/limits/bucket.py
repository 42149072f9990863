"""A server's bucket as its limit headers tell it, carried on between answers."""

from __future__ import annotations

import math
from dataclasses import dataclass

from parallelai.engines.protocol import LimitWindow

_PERIODS = (1.0, 60.0, 3600.0, 86400.0)
_SNAP = 1.5  # reset times are rounded; a period this near to a usual one is that one
_TRUSTED_SECONDS = 5.0
_ANCHOR_SECONDS = 5.0
_SAME_SECONDS = 1.0  # headers tell times in whole seconds
_EPSILON = 1e-6


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a bucket stood after a call went out, and how much had been corrected until then."""

    level: float
    corrected: float
    epoch: int


class Bucket:
    """What is left of one limit (requests or tokens). `limit` and `level` are never below 0.

    Most servers refill all the time: `reset` is when the bucket will be full. Some refill all at once at
    `reset`; they are known by a reset that stays where it is while what remains falls. A header was true at
    some time between its call and its answer, so the level is corrected to the nearest that can be.
    """

    __slots__ = (
        "_anchor",
        "_at",
        "_capacity",
        "_corrected",
        "_epoch",
        "_reset_at",
        "is_stepped",
        "level",
        "limit",
        "rate",
    )

    def __init__(self, limit: float, remaining: float, reset_seconds: float | None, now: float) -> None:
        self.limit = max(1.0, limit)
        self.level = max(0.0, remaining)
        self.rate = self.limit / 60.0
        self.is_stepped = False
        self._at = now
        self._capacity = max(1.0, self.level)
        self._corrected = 0.0
        self._epoch = 0
        self._reset_at: float | None = None
        self._anchor: tuple[float, float, float] | None = None  # when, what remained, when it resets
        self._see_reset(remaining, reset_seconds, now)

    @classmethod
    def of(cls, window: LimitWindow | None, now: float) -> Bucket | None:
        """Make the bucket that a header tells of, None if it does not tell enough."""
        if window is None or window.limit is None or window.remaining is None or window.limit <= 0:
            return None
        return cls(window.limit, window.remaining, window.reset_seconds, now)

    def opens(self, now: float, cost: float) -> float:
        """Give the time at which a call of this cost may go out; one beyond the capacity needs a full bucket."""
        self._refill(now)
        short = min(cost, self._capacity) - self.level
        if short <= 0:
            return now
        by_rate = now + short / self.rate + _EPSILON
        if self._reset_at is not None and self._reset_at > now:
            return self._reset_at if self.is_stepped else min(by_rate, self._reset_at + _SAME_SECONDS)
        return by_rate

    def take(self, now: float, cost: float) -> Mark:
        """Take what a call will cost; what it costs beyond the level is not owed."""
        self._refill(now)
        self.level = max(0.0, self.level - cost)
        return Mark(self.level, self._corrected, self._epoch)

    def give_back(self, amount: float) -> None:
        """Take back what a call did not use (negative: what it used beyond)."""
        self.level = max(0.0, min(max(self._capacity, self.level), self.level + amount))
        self._corrected += amount

    def refuse(self, now: float) -> None:
        """A call was refused: there is less than was thought."""
        self._refill(now)
        self._corrected -= self.level
        self.level = 0.0

    def sync(self, window: LimitWindow, mark: Mark | None, cost: float, now: float) -> bool:
        """Take in the headers of an answer; says whether the limit itself has changed."""
        if window.limit is None or window.remaining is None or window.limit <= 0:
            return False
        self._refill(now)
        remaining = max(0.0, float(window.remaining))
        has_changed = abs(window.limit - self.limit) > _EPSILON * self.limit
        if has_changed:
            self.rate *= window.limit / self.limit
            self.limit = float(window.limit)
            self._anchor = None
        self._capacity = max(self._capacity, remaining + cost)
        self._see_reset(remaining, window.reset_seconds, now)
        if has_changed or mark is None or mark.epoch != self._epoch:
            self._epoch += has_changed
            self._correct(remaining - self.level)
        else:
            self._correct(_least(remaining - self.level, remaining - self._then(mark)))
        return has_changed

    def _then(self, mark: Mark) -> float:
        """The level when a call went out, with what has been corrected since."""
        return mark.level + self._corrected - mark.corrected

    def _correct(self, by: float) -> None:
        self.level = max(0.0, self.level + by)
        self._corrected += by

    def _see_reset(self, remaining: float, seconds: float | None, now: float) -> None:
        if seconds is None or seconds < 0 or not math.isfinite(seconds):
            return
        used = self.limit - remaining
        self._see_kind(remaining, seconds, now)
        self._reset_at = now + seconds
        if used <= 0 or seconds <= 0 or self.is_stepped:
            return
        period = self.limit * seconds / used
        near = min(_PERIODS, key=lambda usual: abs(math.log(usual / period)))
        if max(near, period) / min(near, period) <= _SNAP:
            self.rate = self.limit / near
        elif seconds >= _TRUSTED_SECONDS and used >= 0.02 * self.limit:
            self.rate = self.limit / period

    def _see_kind(self, remaining: float, seconds: float, now: float) -> None:
        """Tell a bucket that refills all at once from one that refills all the time."""
        if self._anchor is None or now >= self._anchor[2]:
            self._anchor = (now, remaining, now + seconds)
            return
        at, left, reset_at = self._anchor
        if now - at < _ANCHOR_SECONDS:
            return
        moved = now + seconds - reset_at
        if moved > 2 * _SAME_SECONDS:
            self.is_stepped = False
        elif remaining < left and (left - remaining) / self.rate > 3 * _SAME_SECONDS:
            self.is_stepped = True
        self._anchor = (now, remaining, now + seconds)

    def _refill(self, now: float) -> None:
        if now <= self._at:
            return
        if self._reset_at is not None and now >= self._reset_at and self.is_stepped:
            self.level, self._reset_at = max(self.level, self.limit), None
        elif not self.is_stepped and self.level < self._capacity:
            self.level = min(self._capacity, self.level + self.rate * (now - self._at))
        self._at = now


def _least(a: float, b: float) -> float:
    """Of two corrections the smaller, none if they point different ways."""
    if a * b <= 0:
        return 0.0
    return min(a, b, key=abs)
