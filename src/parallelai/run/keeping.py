"""What ended well in earlier processes of the run, and is left as it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from parallelai.events import TaskEnded
from parallelai.plan.graph import Instance
from parallelai.plan.model import Workstream
from parallelai.records import Outcome, TaskResult
from parallelai.run.job import Job
from parallelai.run.journaling import Append
from parallelai.run.preparation import Preparation, Ready
from parallelai.run.report import Report
from parallelai.run.resume import Prior, measured_before
from parallelai.run.scheduling.nodes import PHASE, Settled
from parallelai.run.scheduling.scheduler import Scheduler
from parallelai.run.scheduling.tasks import lets_run
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
        if not self._prior.ended and not self._has_streams:
            return
        left_alone = _keeping(self._job, self._prior, self._report, self._preparation, self._settle_landed)
        for instance in left_alone:
            self._scheduler.settle(instance.id, Outcome.OK)
            if self._workspaces is not None and not isinstance(instance.task, Workstream):
                self._workspaces.ended(instance.id, measured_before(self._prior, instance.id))

    def _settle_landed(self, name: str) -> bool:
        """Leave a workstream alone that has landed, in whatever way: that is not to be done again."""
        about = _landed(self._workspaces, name)
        if about is None:
            return False
        before = self._prior.ended.get(name)
        if before is None:  # a person has landed it meanwhile
            result = TaskResult(id=name, status=Outcome.OK, why="landed", workstream=about)
            self._append(TaskEnded(result, is_kept=True), task=name)
        elif before.result.workstream != about:  # or took it back, and landed it again
            self._append(kept(before, about), task=name)
        return True


def asked_again(job: Job, prior: Prior, report: Report, workspaces: Workspaces | None) -> frozenset[str]:
    """Name the engines that a run which is gone on with may ask: those of all that is not done, nor decided.

    Nothing is changed but what is known of files. A task counts where that cannot be said before others have ended.
    """
    preparation = Preparation(job, prior, workspaces.digest if workspaces is not None else None)
    kept = _keeping(job, prior, report, preparation, lambda name: _landed(workspaces, name) is not None)
    outcomes = {instance.id: Outcome.OK for instance in kept}
    engines: set[str] = set()
    for instance in job.graph.topological():
        name = instance.id
        if name in outcomes:
            continue
        decided = _decided(job, preparation, instance, outcomes)
        if isinstance(decided, Settled):
            outcomes[name] = decided.outcome
            reply = report.reply(name) if decided.outcome is Outcome.OK else None
            preparation.views.ended(name, decided.outcome, reply)
            continue
        members = job.assignment(instance).choice.members
        engines.update(
            member
            for member in members
            if decided is None or prior.answer(name, member, decided.fingerprint) is None
        )
    return frozenset(engines)


def _decided(
    job: Job, preparation: Preparation, instance: Instance, outcomes: Mapping[str, Outcome]
) -> Settled | Ready | None:
    """What becomes of a task once those of `outcomes` have ended; None where others have to end before."""
    graph = job.graph
    groups = [graph.groups[group] for group in instance.awaits if not group.startswith(PHASE)]
    for name in (*instance.depends_on, *(item for group in groups for item in group)):
        if name in outcomes and not lets_run(outcomes[name], graph.get(name).task.on_failure):
            return Settled(Outcome.SKIPPED)
    if not outcomes.keys() >= set(_needs(job, instance)):
        return None
    return preparation.prepare(instance)


def _keeping(
    job: Job, prior: Prior, report: Report, preparation: Preparation, has_landed: Callable[[str], bool]
) -> Iterator[Instance]:
    """Give what is left as it is, in an order in which what depends on others comes after them."""
    kept: set[str] = set()
    for instance in job.graph.topological():
        name = instance.id
        if isinstance(instance.task, Workstream):
            is_kept = has_landed(name)
        elif name in prior.ended and kept.issuperset(_needs(job, instance)):
            is_kept = prior.kept(name, preparation.fingerprint(instance)) is not None
        else:
            is_kept = False
        if is_kept:
            kept.add(name)
            preparation.views.ended(name, Outcome.OK, report.reply(name))
            yield instance


def _needs(job: Job, instance: Instance) -> list[str]:
    """All that has to end before an instance."""
    groups = job.graph.groups
    return [*instance.depends_on, *(item for group in instance.awaits for item in groups[group])]


def _landed(workspaces: Workspaces | None, name: str) -> dict[str, Any] | None:
    """What is known of a workstream that has landed; None of another."""
    about = workspaces.workstream(name) if workspaces is not None else None
    return about if about is not None and about["landed"] is not None else None


def kept(before: TaskEnded, about: dict[str, Any] | None) -> TaskEnded:
    """The end of a task that ended well before; of a workstream as it stands now: it may have landed again since."""
    result = before.result if about is None else dataclasses.replace(before.result, workstream=about)
    return dataclasses.replace(before, result=result, is_kept=True)
