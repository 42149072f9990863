"""What the events of a run say of its workstreams."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from parallelai.client.recorded import plan_of
from parallelai.events import Event, RunCreated
from parallelai.plan.model import Plan, Workstream
from parallelai.run.report import Report
from parallelai.work.status.progress import Watched


@dataclasses.dataclass(slots=True)
class Seen:
    """What the events of a run say: as a whole, and of each workstream of its plan; `vars` are those of config."""

    report: Report
    watched: Watched
    vars: Iterable[str]
    plan: Plan = dataclasses.field(default_factory=Plan)

    def take(self, event: Event) -> None:
        """Learn what an event says."""
        self.report.take(event)
        if isinstance(event.data, RunCreated) and event.data.document.get("workstreams"):
            self.plan = plan_of(event.data, self.vars)
            for work in self.plan.workstreams:
                self.watched.of(work.id)  # it is known from here on
        self.watched.take(event)

    def work(self, name: str) -> Workstream | None:
        """A workstream of the plan."""
        return next((work for work in self.plan.workstreams if work.id == name), None)
