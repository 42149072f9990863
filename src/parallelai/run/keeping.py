"""What ended well in earlier processes of the run, and is left as it is."""

from __future__ import annotations

import dataclasses
from typing import Any

from parallelai.events import TaskEnded
from parallelai.plan.model import Workstream
from parallelai.records import Outcome, TaskResult
from parallelai.run.job import Job
from parallelai.run.journaling import Append
from parallelai.run.preparation import Preparation
from parallelai.run.report import Report
from parallelai.run.resume import Prior, measured_before
from parallelai.run.scheduler import Scheduler
from parallelai.run.workspaces import Workspaces


class Keeping:
    """Tells the scheduler, the views and the workspaces what need not be done again.

    `has_streams`: the run has workstreams, which may have landed meanwhile.
    """

    def __init__(
        self,
        job: Job,
        prior: Prior,
        report: Report,
        preparation: Preparation,
        scheduler: Scheduler,
        append: Append,
        workspaces: Workspaces | None,
        *,
        has_streams: bool,
    ) -> None:
        self._job = job
        self._prior = prior
        self._report = report
        self._preparation = preparation
        self._scheduler = scheduler
        self._append = append
        self._workspaces = workspaces
        self._has_streams = has_streams

    def settle(self) -> None:
        """Leave alone what ended well before, as long as nothing that it depends on has to be done again."""
        kept: set[str] = set()
        groups = self._job.graph.groups
        for instance in self._job.graph.topological() if self._prior.ended or self._has_streams else ():
            name = instance.id
            if isinstance(instance.task, Workstream):
                if self._settle_landed(name):
                    kept.add(name)
                continue
            needs = [*instance.depends_on, *(item for group in instance.awaits for item in groups[group])]
            if name not in self._prior.ended or not kept.issuperset(needs):
                continue
            ended = self._prior.kept(name, self._preparation.fingerprint(instance))
            if ended is not None:
                kept.add(name)
                self._settle(name)
                if self._workspaces is not None:
                    self._workspaces.ended(name, measured_before(self._prior, name))

    def _settle_landed(self, name: str) -> bool:
        """Leave a workstream alone that has landed, in whatever way: that is not to be done again."""
        about = self._workspaces.workstream(name) if self._workspaces is not None else None
        if about is None or about["landed"] is None:
            return False
        before = self._prior.ended.get(name)
        if before is None:  # a person has landed it meanwhile
            result = TaskResult(id=name, status=Outcome.OK, why="landed", workstream=about)
            self._append(TaskEnded(result, is_kept=True), task=name)
        elif before.result.workstream != about:  # or took it back, and landed it again
            self._append(kept(before, about), task=name)
        self._settle(name)
        return True

    def _settle(self, name: str) -> None:
        self._preparation.views.ended(name, Outcome.OK, self._report.reply(name))
        self._scheduler.settle(name, Outcome.OK)


def kept(before: TaskEnded, about: dict[str, Any] | None) -> TaskEnded:
    """The end of a task that ended well before; of a workstream as it stands now: it may have landed again since."""
    result = before.result if about is None else dataclasses.replace(before.result, workstream=about)
    return dataclasses.replace(before, result=result, is_kept=True)
