"""How long tasks took before: what a task itself took says most, then what the plan says, then what its like took."""

from __future__ import annotations

from typing import TYPE_CHECKING

from parallelai.plan.model import Task

if TYPE_CHECKING:
    from parallelai.store.journal import Journal


class Past:
    """What earlier runs measured, looked up once for each plan, kind and engine.

    Args:
        journal: of the project; None where nothing was carried out yet.
        plan: the name of the plan; None for what has none.
    """

    def __init__(self, journal: Journal | None, plan: str | None) -> None:
        self._journal = journal
        self._own = journal.measured(plan) if journal is not None and plan is not None else {}
        self._like: dict[tuple[str, str], list[float]] = {}

    def seconds(self, task: Task, engine: str | None) -> list[float]:
        """Give what to go by for a task that an engine does, in seconds, the newest first.

        Empty where the plan's own estimate counts, or nothing is known. `engine` is None for gates of phases.
        """
        own = self._own.get((task.id, engine))
        if own:
            return own
        if task.estimate is not None or engine is None or self._journal is None:
            return []
        key = (task.kind or "", engine)
        if key not in self._like:
            self._like[key] = self._journal.history(*key)
        return self._like[key]
