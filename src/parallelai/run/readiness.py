"""The tasks that were made ready: what their attempts will take and ask, until they have ended."""

from __future__ import annotations

import dataclasses

from parallelai.engines.protocol import Estimate, Request
from parallelai.errors import EngineError
from parallelai.plan.model import PhaseGate
from parallelai.plan.resolve import workspace_of
from parallelai.records import ErrorRecord, Outcome, changed
from parallelai.run.job import Job
from parallelai.run.preparation import Preparation, Ready
from parallelai.run.scheduling.nodes import Prepared, Settled


class Readiness:
    """Prepares tasks for the scheduler, and keeps what was prepared."""

    def __init__(self, job: Job, preparation: Preparation) -> None:
        self._job = job
        self._preparation = preparation
        self._ready: dict[str, Ready] = {}
        self._waiting: set[str] = set()  # what became ready in this round, and did not start

    def adopt(self, job: Job) -> None:
        """Go on with a job that has more tasks."""
        self._job = job
        self._preparation.adopt(job)

    def prepare(self, task: str) -> Prepared | Settled:
        """Make a task ready, or say why nothing is to be done (`Scheduler`)."""
        instance = self._job.graph.get(task)
        ready = self._preparation.prepare(instance)
        if isinstance(ready, Settled):
            return ready
        self._ready[task] = ready
        if isinstance(instance.task, PhaseGate):
            return Prepared()
        self._waiting.add(task)
        who = self._job.assignment(instance)
        try:
            estimates = [
                self._estimate(name, model, ready.request)
                for name, model in zip(who.choice.members, who.models, strict=True)
            ]
            needed = workspace_of(self._job.plan, instance.task).needs.memory
            return Prepared(tuple([_with_memory(each, needed) for each in estimates]))
        except Exception as error:  # an engine is other people's code: its bug is this task's failure
            said = f"the engine failed: {type(error).__name__}: {error}"
            return Settled(Outcome.FAILED, ErrorRecord("internal", said))

    def waiting(self) -> list[str]:
        """Name, once, what became ready and has to wait; of what starts at once, the start says it."""
        waiting, self._waiting = self._waiting, set()
        return sorted(waiting)

    def start(self, task: str) -> Ready:
        """Give what an attempt of a task starts with."""
        self._waiting.discard(task)
        return self._ready[task]

    def end(self, task: str) -> str:
        """Forget a task that has ended; gives its fingerprint, empty if it was never made ready."""
        self._waiting.discard(task)
        ready = self._ready.pop(task, None)
        return ready.fingerprint if ready is not None else ""

    def _estimate(self, name: str, model: str | None, request: Request) -> Estimate:
        if model != request.model:  # which is the first member's
            request = changed(request, model=model)
        try:
            estimate = self._job.engines(name).estimate(request)
        except EngineError:  # it is not there, which its attempt will say; others may take over
            return Estimate()
        known = self._job.session_memory.get(name)
        return estimate if known is None else dataclasses.replace(estimate, memory_bytes=known)


def _with_memory(estimate: Estimate, needed: int | None) -> Estimate:
    """What a workspace says that it needs counts where nothing is known, or less."""
    if needed is None or needed <= estimate.memory_bytes:
        return estimate
    return dataclasses.replace(estimate, memory_bytes=needed)
