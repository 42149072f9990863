"""The one final result of a task, from what its attempts came to."""

from __future__ import annotations

import dataclasses
from typing import Any

from parallelai.events import TaskEnded
from parallelai.records import ErrorRecord, Outcome, TaskResult
from parallelai.run.flights import Tally
from parallelai.run.job import Job
from parallelai.run.scheduling.decisions import Finish


def ended_of(
    job: Job, finish: Finish, tally: Tally, fingerprint: str, workstream: dict[str, Any] | None
) -> TaskEnded:
    """Make a task's last event. `workstream` is what there is to say of one (CONTRACTS §5), None of a plain task."""
    who = job.assignment(job.graph.get(finish.task))
    reply = tally.reply
    result = TaskResult(
        id=finish.task,
        status=finish.outcome,
        engine=tally.engine,
        account=tally.account,
        model=tally.model,
        why=who.why,
        attempts=tally.attempts,
        turns=tally.turns,
        seconds=round(tally.seconds, 3),
        findings=sum(one.state == "open" for one in reply.findings) if reply is not None else 0,
        usage=tally.usage,
        error=_placed(job, finish),
        workstream=workstream,
        because=finish.why if finish.outcome is Outcome.SKIPPED else None,
    )
    return TaskEnded(result, fingerprint, tuple(tally.good))


def _placed(job: Job, finish: Finish) -> ErrorRecord | None:
    """The error with the task's place in its plan, where the error names none of its own."""
    error = finish.error
    if error is None or error.where is not None:
        return error
    name = str(job.graph.get(finish.task).task.id)
    return dataclasses.replace(error, where=job.places.get(name))
