"""A server's bucket as its limit headers tell it, carried on between answers."""

from __future__ import annotations

import math

from msgspec import Struct

from parallelai.engines.protocol import LimitWindow

_PERIODS = (1.0, 60.0, 3600.0, 86400.0)
_SNAP = 1.5  # headers are rounded: a rate this near to a usual one is that one
_WHOLE_SECONDS, _FINE_SECONDS = 4.0, 0.02  # differences of reset times that say something
_LEAST_FALL = 5.0
_EPSILON = 1e-6
_SLACK, _MOST_SLACK = 0.05, 0.4  # shares of the capacity; more after a refusal, fading
_SLACK_FADE = 0.02
_PLENTY = 0.5  # of the capacity
_RISE = 0.15  # of what a header tells more than was thought: it may come from a call that was late


class Mark(Struct, frozen=True):
    """Where a bucket stood after a call went out, and how much had been corrected until then."""

    at: float
    level: float
    corrected: float


class Bucket:
    """What is left of one limit (requests or tokens). `limit` and `level` are never below 0.

    A limit counts for a minute, until the resets tell something else. Most servers refill all the time: `reset` is
    when the bucket will be full, and grows as less remains. Some refill all at once at `reset`, which comes nearer
    as less remains. A header was true at
    some time between its call and its answer, so the level is corrected to the nearest that can be. A little
    is left in the bucket, because clocks and networks are never exact; where it is larger than that, this costs
    nothing.
    """

    __slots__ = (
        "_anchor",
        "_at",
        "_capacity",
        "_corrected",
        "_reset_at",
        "_slack",
        "_told_by",
        "is_stepped",
        "level",
        "limit",
        "rate",
    )

    def __init__(
        self, limit: float, remaining: float, reset_seconds: float | None, now: float, sent_at: float
    ) -> None:
        self.limit = max(1.0, limit)
        self.level = max(0.0, remaining)
        self.rate = self.limit / 60.0
        self.is_stepped = False
        self._at = now
        self._capacity = max(1.0, self.level)
        self._corrected = 0.0
        self._slack = _SLACK
        self._told_by = sent_at  # when the call went out that told the limit
        self._reset_at: float | None = None
        self._anchor: tuple[float, float] | None = None  # what remained, and the seconds to the reset, once
        self._see_reset(remaining, reset_seconds, now)

    @classmethod
    def of(cls, window: LimitWindow | None, now: float, sent_at: float, after: float) -> Bucket | None:
        """Make the bucket that a header tells of, None if it does not tell enough.

        Its call went out at `sent_at`; `after` is what later calls take, which the header may not know of.
        """
        if window is None or window.limit is None or window.remaining is None or window.limit <= 0:
            return None
        made = cls(window.limit, window.remaining, window.reset_seconds, now, sent_at)
        made.level = max(0.0, made.level - after)
        return made

    def opens(self, now: float, cost: float) -> float:
        """Give the time at which a call of this cost may go out; one beyond the capacity needs a full bucket."""
        self._refill(now)
        short = min(cost + self._slack * self._capacity, self._capacity) - self.level
        if short <= 0:
            return now
        if self.is_stepped and self._reset_at is not None and self._reset_at > now:
            return self._reset_at
        return now + short / self.rate + _EPSILON

    def take(self, now: float, cost: float) -> Mark:
        """Take what a call will cost; what it costs beyond the level is not owed."""
        self._refill(now)
        self.level = max(0.0, self.level - cost)
        self._slack += _SLACK_FADE * (_SLACK - self._slack)
        return Mark(now, self.level, self._corrected)

    def give_back(self, amount: float) -> None:
        """Take back what a call did not use (negative: what it used beyond)."""
        self.level = max(0.0, min(max(self._capacity, self.level), self.level + amount))
        self._corrected += amount

    def refuse(self, now: float) -> None:
        """A call was refused: there is less than was thought, unless there was plenty: then it was not this limit."""
        self._refill(now)
        if self.level > _PLENTY * self._capacity:
            return
        self._corrected -= self.level
        self.level = 0.0
        self._slack = min(_MOST_SLACK, 2 * self._slack)

    def sync(self, window: LimitWindow, mark: Mark | None, cost: float, now: float) -> bool:
        """Take in the headers of an answer; says whether the limit itself has changed."""
        if window.limit is None or window.remaining is None or window.limit <= 0:
            return False
        self._refill(now)
        remaining = max(0.0, float(window.remaining))
        is_old = mark is None or mark.at < self._told_by
        if is_old:  # it may be from before what is known now
            self._correct(min(0.0, remaining - self.level))
            return False
        has_changed = abs(window.limit - self.limit) > _EPSILON * self.limit
        if has_changed:
            self.rate *= window.limit / self.limit
            self.limit = float(window.limit)
            self._anchor = None
            self._told_by = now if mark is None else mark.at
        self._capacity = max(self._capacity, remaining + cost)
        self._see_reset(remaining, window.reset_seconds, now)
        if has_changed or mark is None:
            self._correct(remaining - self.level)
        else:
            by = _least(remaining - self.level, remaining - self._then(mark))
            self._correct(by if by < 0 else by * _RISE)
        return has_changed

    def _then(self, mark: Mark) -> float:
        """The level when a call went out, with what has been corrected since."""
        return mark.level + self._corrected - mark.corrected

    def _correct(self, by: float) -> None:
        self.level = max(0.0, self.level + by)
        self._corrected += by

    def _see_reset(self, remaining: float, seconds: float | None, now: float) -> None:
        """Learn from the time of reset: where it grows as less remains, by how much tells the rate."""
        if seconds is None or seconds < 0 or not math.isfinite(seconds):
            return
        self._reset_at = now + seconds
        if self._anchor is None:
            self._anchor = (remaining, seconds)
            return
        fell, longer = self._anchor[0] - remaining, seconds - self._anchor[1]
        is_whole = seconds == int(seconds) and self._anchor[1] == int(self._anchor[1])
        least = _WHOLE_SECONDS if is_whole else _FINE_SECONDS
        if abs(longer) < least or abs(fell) < _LEAST_FALL:
            return
        self._anchor = (remaining, seconds)
        if fell * longer > 0:
            self.is_stepped = False
            self.rate = self._usual(fell / longer)
        elif fell > 0:  # less remains, and yet the reset comes nearer
            self.is_stepped = True

    def _usual(self, rate: float) -> float:
        """Give the rate as limits are usually written, if the measured one is near to it."""
        usual = min((self.limit / period for period in _PERIODS), key=lambda one: abs(math.log(one / rate)))
        return usual if max(usual, rate) / min(usual, rate) <= _SNAP else rate

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
