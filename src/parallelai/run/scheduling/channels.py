"""How calls go out: counts and limit keys, and the channel of a member that has one of each."""

from __future__ import annotations

import math
from collections.abc import Callable

from parallelai.records import LimitKey


class Count:
    """How many are in flight of how many (`ceiling` None: as many as the run allows).

    `is_told`: somebody was told that it is full.
    """

    __slots__ = ("ceiling", "in_flight", "is_told")

    def __init__(self, ceiling: int | None) -> None:
        if ceiling is not None and ceiling < 1:
            raise ValueError(f"a limit lets at least 1 start, not {ceiling}")
        self.ceiling = ceiling
        self.in_flight = 0
        self.is_told = False

    @property
    def is_full(self) -> bool:
        return self.ceiling is not None and self.in_flight >= self.ceiling


class RoleCount(Count):
    """How many attempts of a role's tasks are in flight."""

    __slots__ = ("role",)

    def __init__(self, role: str, ceiling: int) -> None:
        super().__init__(ceiling)
        self.role = role


class KeyState:
    """One limit key: `not_before` moves with Retry-After; a breaker is open until `until` (None: unknown).

    `told`: until when users know that the key waits.
    """

    __slots__ = ("crowding", "in_flight", "is_open", "key", "not_before", "told", "until", "why")

    def __init__(self, key: LimitKey, crowding: Callable[[LimitKey, int], bool] | None = None) -> None:
        self.key = key
        self.crowding = crowding
        self.in_flight = 0
        self.not_before = -math.inf
        self.told = -math.inf
        self.is_open = False
        self.until: float | None = None
        self.why = ""

    @property
    def is_crowded(self) -> bool:
        """Whether more attempts would only wait for their turn to call: slots are for calls."""
        return self.crowding is not None and self.crowding(self.key, self.in_flight)

    def can_wait(self, now: float, longest_seconds: float) -> bool:
        """Say whether waiting for the breaker to close is worth while."""
        return self.until is not None and self.until - now <= longest_seconds


class Channel:
    """How a member's calls go out: its key, and the count of its engine."""

    __slots__ = ("engine", "key", "number", "started")

    def __init__(self, number: int, engine: Count, key: KeyState) -> None:
        self.number = number
        self.engine = engine
        self.key = key
        self.started = 0

    def bound(self, now: float) -> str | None:
        """Say why nothing can start here now."""
        if self.key.is_open or now < self.key.not_before:
            return "rate_limited"
        return "concurrency" if self.engine.is_full or self.key.is_crowded else None

    @property
    def load(self) -> tuple[float, int]:
        """Smaller for more that is left: of its ceiling, then of its turn."""
        ceiling = self.engine.ceiling
        return (self.key.in_flight / ceiling if ceiling else self.key.in_flight / 1e9), self.started
