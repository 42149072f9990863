"""The scheduler: a pure state machine (signatures first; the bodies follow)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random

from parallelai.events import EventData
from parallelai.records import ErrorRecord, Outcome
from parallelai.run.decisions import Decision
from parallelai.run.nodes import AttemptResult, Budget, Node, Prepared, Settings, Settled, Statistics


class Scheduler:
    """Decides; see decisions.py for what, nodes.py for what it is told."""

    def __init__(
        self,
        nodes: Sequence[Node],
        groups: Mapping[str, tuple[str, ...]],
        settings: Settings,
        *,
        prepare: Callable[[str], Prepared | Settled],
        random: Random,
        now: float,
    ) -> None: ...

    def decide(self, now: float) -> list[Decision]:
        """All that can be decided now; the last is a `Wait` unless the run `is_done` with these decisions."""
        ...

    def attempt_ended(self, task: str, attempt: int, result: AttemptResult, now: float) -> None: ...
    def step_ended(self, task: str, step: str, error: ErrorRecord | None, now: float) -> None: ...
    def settle(self, task: str, outcome: Outcome, error: ErrorRecord | None = None) -> None:
        """Before its start: the task finished in an earlier process; no `Finish` is decided for it."""

    def add(self, nodes: Sequence[Node], groups: Mapping[str, tuple[str, ...]], now: float) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def stop(self, why: str) -> None:
        """No new start; what has begun goes on to its end; the rest finishes `cancelled`."""

    def cancel(self, task: str | None, why: str = "cancelled") -> bool:
        """Cancel one task, or all (None): what is in flight gets `Cancel`. False: it had already ended."""
        ...

    def retry(self, task: str, now: float) -> tuple[str, ...]:
        """Try now what waits to be retried, or open a task again that ended badly, with what was skipped for it.

        Gives the tasks opened again: each gets another `Finish`.
        """
        ...

    def set_parallel(self, parallel: int) -> None: ...
    def set_budget(self, budget: Budget) -> None:
        """Totals of the run. Nothing that already ended over budget is opened again: `retry` does that."""

    def notices(self) -> list[EventData]: ...
    @property
    def is_done(self) -> bool: ...
    def statistics(self) -> Statistics: ...
