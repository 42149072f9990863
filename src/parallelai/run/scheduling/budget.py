"""What a run may spend: reserve an estimate, start, settle the real figure (SCHEDULING, Budgets).

Money is in USD, time in seconds. What is unknown counts for nothing here, and is counted as unknown.
"""

from __future__ import annotations

from typing import NamedTuple

from parallelai.engines.protocol import Estimate
from parallelai.events import BudgetReached, BudgetWarned
from parallelai.records import LimitKey, Usage
from parallelai.run.scheduling.nodes import Allowance, Budget

_WARN_AT = 0.8
_ROUNDING = 1e-9  # a hundred times 0.01 is more than 1.0 in binary fractions


class Reservation(NamedTuple):
    """What an attempt in flight may take; `is_free` if that is known to be nothing."""

    usd: float = 0.0
    tokens: float = 0.0
    is_free: bool = True


NOTHING = Reservation()


class _Learned:
    """What calls of one key really took, beside what had been estimated for the same calls."""

    __slots__ = ("calls", "estimated", "took", "took_all")

    def __init__(self) -> None:
        self.calls = 0
        self.took_all = 0.0
        self.estimated = 0.0
        self.took = 0.0

    def add(self, estimate: float | None, took: float | None) -> None:
        if took is None:
            return
        self.calls += 1
        self.took_all += took
        if estimate:
            self.estimated += estimate
            self.took += took

    def expect(self, estimate: float | None) -> float | None:
        """Correct an estimate by what calls really took; None if nothing is known."""
        if not self.calls:
            return estimate
        if self.estimated > 0 and estimate is not None:
            return estimate * self.took / self.estimated
        return self.took_all / self.calls


class _Calls:
    """The calls of one key: their money and their tokens."""

    __slots__ = ("tokens", "usd")

    def __init__(self) -> None:
        self.usd = _Learned()
        self.tokens = _Learned()


class Spending:
    """The money, tokens and time of one run. `spent` is what earlier processes of the run used."""

    def __init__(self, budget: Budget, spent: Budget, now: float) -> None:
        self.usd = spent.usd or 0.0
        self.tokens = spent.tokens or 0
        self.reserved_usd = 0.0
        self.reserved_tokens = 0.0
        self.unpriced = 0
        self._in_flight = 0
        self._began = now - (spent.time or 0.0)
        self._learned: dict[LimitKey, _Calls] = {}
        self._warned: set[str] = set()
        self._limits = Allowance()
        self.deadline: float | None = None
        self.is_limited = False
        self.set_limits(budget)

    def set_limits(self, budget: Budget) -> None:
        """Take new totals of the run; warnings start afresh."""
        self._limits = Allowance(budget.usd, budget.tokens, budget.time)
        self._warned.clear()
        self.deadline = None if budget.time is None else self._began + budget.time
        self.is_limited = budget.usd is not None or budget.tokens is not None

    def expect(self, key: LimitKey, estimate: Estimate) -> Reservation:
        """Say what an attempt will take, from its estimate and from what the key's calls really took."""
        learned = self._learn(key)
        usd, tokens = learned.usd.expect(estimate.usd), learned.tokens.expect(estimate.tokens)
        return Reservation(usd or 0.0, tokens or 0.0, usd == 0 and tokens == 0)

    def fits(self, wanted: Reservation) -> bool:
        """Say whether it may start now. What is free always may."""
        return self.excess(wanted) is None

    def excess(self, wanted: Reservation) -> str | None:
        """Name the limit that does not allow it, `usd` or `tokens`."""
        if wanted.is_free:
            return None
        limits = self._limits
        if limits.usd is not None and not _has_room(self.usd + self.reserved_usd, wanted.usd, limits.usd):
            return "usd"
        used = self.tokens + self.reserved_tokens
        if limits.tokens is not None and not _has_room(used, wanted.tokens, limits.tokens):
            return "tokens"
        return None

    def reserve(self, wanted: Reservation) -> None:
        self._in_flight += 1
        self.reserved_usd += wanted.usd
        self.reserved_tokens += wanted.tokens

    def settle(self, key: LimitKey, reserved: Reservation, estimate: Estimate, usage: Usage | None) -> None:
        """Replace a reservation by what the attempt really took. `usage` is None if that is unknown."""
        self._in_flight -= 1
        if self._in_flight:
            self.reserved_usd -= reserved.usd
            self.reserved_tokens -= reserved.tokens
        else:  # so that sums of fractions never drift
            self.reserved_usd = self.reserved_tokens = 0.0
        if usage is None:
            self.unpriced += estimate.usd != 0
            return
        usd = 0.0 if usage.basis == "subscription" else usage.usd
        tokens = usage.tokens
        if usd is None:
            self.unpriced += 1
        self.use(usd, tokens)
        if self.is_limited:
            learned = self._learn(key)
            learned.usd.add(estimate.usd, usd)
            learned.tokens.add(estimate.tokens, tokens)

    def use(self, usd: float | None, tokens: int | None) -> None:
        """Count what was used, as far as that is known."""
        self.usd += usd or 0.0
        self.tokens += tokens or 0

    def overspent(self) -> str | None:
        """Name a limit of money or tokens that is used up by what was settled."""
        limits = self._limits
        if limits.usd is not None and _is_used_up(self.usd, limits.usd):
            return "usd"
        if limits.tokens is not None and _is_used_up(self.tokens, limits.tokens):
            return "tokens"
        return None

    def is_late(self, now: float) -> bool:
        return self.deadline is not None and now >= self.deadline

    def next_time(self, now: float) -> float | None:
        """Give the next time at which the time limit, or its warning, is due."""
        limit = self._limits.time
        if limit is None or now >= self._began + limit:
            return None
        warning = self._began + limit * _WARN_AT
        return warning if now < warning and "time" not in self._warned else self.deadline

    def warnings(self, now: float) -> list[BudgetWarned]:
        """Give what has come to 80 % since the last call; each limit warns once."""
        if self.deadline is None and not self.is_limited:
            return []
        made = []
        for what, used, limit in self._uses(now):
            if what not in self._warned and used > 0 and used >= limit * _WARN_AT:
                self._warned.add(what)
                made.append(BudgetWarned(what, used, limit))
        return made

    def reached(self, what: str, now: float) -> BudgetReached:
        for name, used, limit in self._uses(now):
            if name == what:
                return BudgetReached(what, used, limit)
        raise ValueError(f"`{what}` has no limit")

    def _uses(self, now: float) -> list[tuple[str, float, float]]:
        limits = self._limits
        rows = [
            ("usd", self.usd + self.reserved_usd, limits.usd),
            ("tokens", self.tokens + self.reserved_tokens, limits.tokens),
            ("time", now - self._began, limits.time),
        ]
        return [(what, used, float(limit)) for what, used, limit in rows if limit is not None]

    def _learn(self, key: LimitKey) -> _Calls:
        found = self._learned.get(key)
        if found is None:
            found = self._learned[key] = _Calls()
        return found


def _has_room(used: float, wanted: float, limit: float) -> bool:
    return not _is_used_up(used, limit) and used + wanted <= limit * (1 + _ROUNDING)


def _is_used_up(used: float, limit: float) -> bool:
    return used >= limit * (1 - _ROUNDING)
