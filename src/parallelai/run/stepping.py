"""Carries the steps after `perform` out: one at a time for each task."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from parallelai import processes
from parallelai.errors import EngineError
from parallelai.events import TaskStep
from parallelai.plan.graph import Instance
from parallelai.plan.model import PhaseGate
from parallelai.plan.resolve import workspace_of
from parallelai.run.flights import Tally
from parallelai.run.job import Job
from parallelai.run.journaling import Append
from parallelai.run.steps import STAGES, Step, StepContext, attempted

Done = Callable[[str, str, EngineError | None], None]
"""Is told a step, its task, and why it failed. One that was cancelled did not fail."""


class Stepping:
    """The steps of a run, and those that are being carried out. `append` writes an event down."""

    def __init__(self, steps: Sequence[Step], append: Append) -> None:
        self.steps = tuple(steps)
        self._by_kind = {step.kind: step for step in steps}
        self._append = append
        self._running: dict[str, asyncio.Task[EngineError | None]] = {}
        self._gated: dict[str, float] = {}

    def start(self, kind: str, instance: Instance, job: Job, group: asyncio.TaskGroup, done: Done) -> None:
        """Begin a step of a task; `done` is called at its end."""
        step = self._by_kind[kind]
        self._append(TaskStep(step.kind, STAGES.get(step.kind, step.stage)), task=instance.id)
        running = group.create_task(_carry_out(step, instance, job), name=kind)
        self._running[instance.id] = running
        begun = time.monotonic()

        def ended(task: asyncio.Task[EngineError | None]) -> None:
            self._running.pop(instance.id, None)
            if isinstance(instance.task, PhaseGate):
                self._gated[instance.id] = time.monotonic() - begun
            done(kind, instance.id, None if task.cancelled() else task.result())

        running.add_done_callback(ended)

    def tally(self, task: str) -> Tally | None:
        """Give what the gate of a phase took, whose step is all of its work; None of others, which make attempts."""
        return Tally(seconds=self._gated.pop(task)) if task in self._gated else None

    def cancel(self, task: str) -> None:
        """End a task's step, if one is being carried out."""
        if task in self._running:
            self._running[task].cancel()

    def of_kind(self, kind: str) -> tuple[str, ...]:
        """Name the tasks of which such a step is being carried out."""
        return tuple(task for task, running in self._running.items() if running.get_name() == kind)

    def cancel_all(self) -> bool:
        """End all steps; False if there is none."""
        for running in self._running.values():
            running.cancel()
        return bool(self._running)


async def _carry_out(step: Step, instance: Instance, job: Job) -> EngineError | None:
    workspace = workspace_of(job.plan, instance.task)
    context = StepContext(
        run=job.run,
        root=job.root,
        log=job.logs / "steps" / f"{instance.index}-{step.kind}.log",
        env=processes.environment(env=workspace.env, pass_env=workspace.pass_env),
        grace_seconds=job.plan.limits.grace,
    )
    return await attempted(step, instance, context)
