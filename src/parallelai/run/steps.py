"""The steps of a task's life: what rooms register, and the scheduler takes in order (DESIGN §3).

`perform` is carried out by attempts; every other step is one call after it. A later room adds a step by
giving the runner one more object; nothing here changes.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from parallelai import processes
from parallelai.errors import CheckFailed, EngineError, Internal, ParallelAIError, TimedOut, first_error
from parallelai.plan.graph import Instance
from parallelai.store import faults

PERFORM = "perform"

STAGES = {PERFORM: "working", "prepare": "preparing", "guard": "guarding", "check": "checking"}
"""The stage that a task is in during a step (CONTRACTS §2)."""


class StepContext(Struct, frozen=True):
    """Where a step works. `log` is a file for what its programs print."""

    run: str
    root: Path
    log: Path
    env: dict[str, str]
    grace_seconds: float


class Step(Protocol):
    """One step after `perform`. `kind` names it; `stage` is what watchers see.

    A step that waits for others more than it works says `is_unslotted = True`: it takes no slot of the run.
    """

    kind: str
    stage: str

    def applies(self, instance: Instance) -> bool:
        """Say whether this task has the step at all."""

    async def carry_out(self, instance: Instance, context: StepContext) -> None:
        """Do it. Raises an `EngineError` that ends the task."""


def disk_full(error: OSError) -> Internal:
    """Say of a file that could not be written for want of room what the journal says of itself."""
    found = faults.full(Path(os.fsdecode(error.filename2 or error.filename or "the disk")))
    return Internal(found.said, next=found.next)


async def attempted(step: Step, instance: Instance, context: StepContext) -> EngineError | None:
    """Carry a step out, and give its error, if it has one, instead of raising it."""
    try:
        context.log.parent.mkdir(parents=True, exist_ok=True)
        await step.carry_out(instance, context)
    except Exception as raised:  # a step is a plug-in: its bug is this task's failure, not the run's
        error = first_error(raised)  # several may have been at it at once
        if isinstance(error, EngineError):
            return error
        if isinstance(error, ParallelAIError):
            return Internal(error.said, where=error.where, next=error.next)
        if isinstance(error, OSError) and faults.is_full(error):
            return disk_full(error)
        return Internal(f"step `{step.kind}` failed: {type(error).__name__}: {error}")
    return None


class CheckStep:
    """Run the task's own `checks`, one after another; the first that fails ends the task.

    Where an attempt has a folder of its own (`is_placed`), it runs them itself, there.
    """

    kind = "check"
    stage = "checking"

    def __init__(self, is_placed: Callable[[Instance], bool] = lambda instance: False) -> None:
        self._is_placed = is_placed

    def applies(self, instance: Instance) -> bool:
        return bool(instance.task.checks) and not self._is_placed(instance)

    async def carry_out(self, instance: Instance, context: StepContext) -> None:
        for argv in instance.task.checks:
            await _check(argv, instance, context)


async def _check(argv: tuple[str, ...], instance: Instance, context: StepContext) -> None:
    shown = shlex.join(argv)
    completed = await processes.run(
        processes.Program(
            argv=argv,
            cwd=context.root,
            env=context.env,
            timeout_seconds=instance.task.timeout,
            grace_seconds=context.grace_seconds,
            log=context.log,
            run=context.run,
            label=f"check of {instance.id}",
        )
    )
    if completed.ended_by is not None:
        raise TimedOut(f"check `{shown}` was not done after {instance.task.timeout:g} s")
    if completed.exit != 0:
        said = (completed.stderr.strip() or completed.stdout.strip()).decode(errors="replace")
        last = "\n".join(said.splitlines()[-5:])[-1000:]
        end = f"exit {completed.exit}" if completed.exit is not None else f"signal {completed.signal}"
        failed = ": ".join(filter(None, (f"check `{shown}` failed ({end})", last)))
        raise CheckFailed(failed, next=f"see `{os.path.relpath(context.log, context.root)}`")
