"""How the scheduler is set: ceilings, strategy, budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Literal

from msgspec import Struct, field

from parallelai.records import LimitKey
from parallelai.run.scheduling.nodes import Allowance, Budget
from parallelai.run.scheduling.strategies import DAGStrategy, Strategy

_LAST_TIME = 253_402_300_799.0  # the year 9999


def utc_text(now: float) -> str:
    """Write a time of the Unix clock as it is stored; one that no calendar has, which others may tell, as the last."""
    text = datetime.fromtimestamp(max(0.0, min(_LAST_TIME, now)), UTC).isoformat(timespec="seconds")
    return text.replace("+00:00", "Z")


class Settings(Struct, frozen=True):
    """How a run is carried out.

    `parallel` is the ceiling of what is in flight, `concurrency` that of an engine, `phase_parallel` that of
    a phase. `memory_bytes` is what all attempts in flight together may take by their estimates, None for no
    limit. `spent` is what earlier processes of this run used. `to_utc` turns `now` into the text that events
    hold; give one if the clock is not the Unix clock. `is_crowded` says whether so many attempts in flight are
    enough for the calls that a key allows now.
    """

    parallel: int = 50
    concurrency: Mapping[str, int] = field(default_factory=dict)
    phase_parallel: Mapping[int, int] = field(default_factory=dict)
    strategy: Strategy = field(default_factory=DAGStrategy)
    budget: Budget = field(default_factory=Allowance)
    on_budget: Literal["finish", "cancel"] = "finish"
    max_wait_seconds: float = 3600.0
    memory_bytes: int | None = None
    spent: Budget = field(default_factory=Allowance)
    to_utc: Callable[[float], str] = utc_text
    is_crowded: Callable[[LimitKey, int], bool] | None = None
