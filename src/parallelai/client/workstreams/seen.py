"""What the events of a run say of its workstreams."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from parallelai.events import Event, LimitReached, RunCreated
from parallelai.plan.model import Plan, Workstream
from parallelai.run.report import Report
from parallelai.work.status.progress import Watched


@dataclasses.dataclass(slots=True)
class Seen:
    """What the events of a run say: as a whole, and of each workstream of its plan, which `plan_of` gives.

    `limits`: how many attempts at once those roles may have whose limit kept something from starting.
    """

    report: Report
    watched: Watched
    plan_of: Callable[[RunCreated], Plan]
    plan: Plan = dataclasses.field(default_factory=Plan)
    limits: dict[str, int] = dataclasses.field(default_factory=dict)

    def take(self, event: Event) -> None:
        """Learn what an event says."""
        self.report.take(event)
        if isinstance(event.data, RunCreated) and event.data.document.get("workstreams"):
            self.plan = self.plan_of(event.data)
            for work in self.plan.works:
                self.watched.of(work.id)  # it is known from here on
        elif isinstance(event.data, LimitReached) and event.data.what == "role":
            self.limits[event.data.name] = event.data.limit
        self.watched.take(event)

    def work(self, name: str) -> Workstream | None:
        """A workstream of the plan."""
        return next((work for work in self.plan.workstreams if work.id == name), None)
