"""All limit keys of a run: what they start with, what is told of their changes, what is worth keeping."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from msgspec import Struct, field

from parallelai.engines.loopback import is_loopback
from parallelai.engines.protocol import LimitsEvent
from parallelai.events import LimitChanged
from parallelai.records import LimitKey
from parallelai.run.limits.key import START, KeyLimit, Reservation

QUIET_SECONDS = 10.0
"""Changes of a pace are told at most so often for each key; the first of each kind at once."""

TOLD_CHANGE = 0.25
"""Smaller changes of a pace are not told."""


class _Told(Struct):
    """What was last said of a key. `value` is calls at once."""

    value: int
    at: float = -math.inf
    kind: str = ""


class Keys(Struct):
    """The limits of one run, by key.

    Args:
        parallel: the ceiling of every key.
        concurrency: an engine's own ceiling, which is fixed.
        last_good: what worked for a key before, None if nothing is known.
        is_local: what starts at its ceiling, beside keys whose account is a loopback address.
        on_change: is told of every change.
    """

    parallel: int
    concurrency: Mapping[str, int] = field(default_factory=dict)
    last_good: Callable[[LimitKey], int | None] = lambda _: None
    is_local: Callable[[LimitKey], bool] = lambda _: False
    on_change: Callable[[LimitChanged], None] = lambda _: None
    _limits: dict[LimitKey, KeyLimit] = field(default_factory=dict)
    _told: dict[LimitKey, _Told] = field(default_factory=dict)

    def __getitem__(self, key: LimitKey) -> KeyLimit:
        """Give a key's limit, made when it is first asked for."""
        found = self._limits.get(key)
        if found is None:
            found = self._limits[key] = self._make(key)
            self._told[key] = _Told(found.limit)
        return found

    def get(self, key: LimitKey) -> KeyLimit | None:
        """Give a key's limit if anything asked for it yet."""
        return self._limits.get(key)

    def good(self) -> dict[LimitKey, int]:
        """Say how many calls at once worked, for every adapting key that had an answer."""
        goods = {key: limit.good for key, limit in self._limits.items() if not limit.is_fixed}
        return {key: good for key, good in goods.items() if good is not None}

    def settle(
        self,
        key: LimitKey,
        reservation: Reservation,
        now: float,
        used: float | None,
        limits: LimitsEvent | None,
    ) -> None:
        """End a call (see `KeyLimit.settle`)."""
        limit = self[key]
        if limit.settle(reservation, now, used, limits):
            self._tell(key, now, "headers", _of_headers(limit), always=True)

    def answered(
        self, key: LimitKey, reservation: Reservation | None, is_first_try: bool, now: float
    ) -> None:
        """Take in a good answer (see `KeyLimit.answered`)."""
        limit = self[key]
        if limit.answered(reservation, is_first_try):
            self._tell(
                key, now, "doubled", f"{limit.adaptive.limit} at once: nothing was refused so far", True
            )
        elif limit.adaptive.is_paced:
            self._tell_pace(key, limit, now)

    def refused(self, key: LimitKey, reservation: Reservation | None, wait: float | None, now: float) -> None:
        """Take in a 429 (see `KeyLimit.refused`)."""
        limit = self[key]
        if limit.refused(now, reservation, wait):
            self._tell_pace(key, limit, now)

    def faltered(self, key: LimitKey, reservation: Reservation | None) -> None:
        """Take in a failure of the server (see `KeyLimit.faltered`)."""
        self[key].faltered(reservation)

    def _make(self, key: LimitKey) -> KeyLimit:
        fixed = self.concurrency.get(key.engine)
        if fixed is not None:
            return KeyLimit(max(1, min(fixed, self.parallel)), is_fixed=True)
        known = self.last_good(key)
        if known is not None:
            return KeyLimit(self.parallel, max(1, known))
        is_local = is_loopback(key.account) or self.is_local(key)
        return KeyLimit(self.parallel, self.parallel if is_local else START)

    def _tell_pace(self, key: LimitKey, limit: KeyLimit, now: float) -> None:
        minute = limit.adaptive.per_minute
        if minute is not None:
            self._tell(key, now, "paced", f"429: paced at {minute:.3g} calls a minute")

    def _tell(self, key: LimitKey, now: float, kind: str, why: str, always: bool = False) -> None:
        limit, told = self[key], self._told[key]
        is_paced = limit.has_headers or limit.adaptive.is_paced
        value = max(1, min(limit.limit, round(limit.usual) or 1)) if is_paced else limit.limit
        is_new = always or kind != told.kind
        has_moved = abs(value - told.value) > TOLD_CHANGE * told.value
        if not is_new and (now - told.at < QUIET_SECONDS or not has_moved):
            return
        self.on_change(LimitChanged(key, told.value, value, why))
        self._told[key] = _Told(value, now, kind)


def _of_headers(limit: KeyLimit) -> str:
    told = [
        f"{bucket.limit:,.0f} {what}"
        for what, bucket in (("requests", limit.requests), ("tokens", limit.tokens))
        if bucket is not None
    ]
    return f"the server's headers: {' and '.join(told)}"
