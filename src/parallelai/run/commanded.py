"""What others ask of a run beside the scheduler's own verbs, done: more tasks, messages, answers, leave."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from parallelai.engines.protocol import Message
from parallelai.errors import UsageError
from parallelai.events import Event, EventData
from parallelai.plan.graph import Instance
from parallelai.run.asking import Questions
from parallelai.run.assembly import expansion
from parallelai.run.flights import Flights
from parallelai.run.job import Job
from parallelai.run.scheduling.nodes import Node
from parallelai.run.scheduling.scheduler import Scheduler

Steer = Callable[[str, Mapping[str, Any], str], str]
Grow = Callable[[Job, Mapping[str, Any]], Job]
"""Gives the job with one more task in its plan and graph. Raises `UsageError` or `PlanError`."""


class Hands(NamedTuple):
    """What a command takes to be done.

    `nodes_of` makes the scheduler's nodes of a job's new instances; `adopt` is told of the job that has them.
    `steer` does what is asked of a workstream, and of a task that waits for leave; None where nobody can.
    """

    grow: Grow
    nodes_of: Callable[[Job, Iterable[Instance]], list[Node]]
    adopt: Callable[[Job], None]
    append: Callable[[EventData], Event]
    now: Callable[[], float]
    steer: Steer | None


class Commanded:
    """A run as others command it (`steering.Steered`). Each call gives what to answer, or raises `UsageError`."""

    def __init__(
        self, job: Job, scheduler: Scheduler, flights: Flights, questions: Questions, hands: Hands
    ) -> None:
        self._job = job
        self._scheduler = scheduler
        self._flights = flights
        self._questions = questions
        self._hands = hands

    def add_task(self, task: Mapping[str, Any]) -> str:
        """Take another task in, and say which instances it gave."""
        before, hands = self._job.graph, self._hands
        job = hands.grow(self._job, task)
        fresh = [instance for instance in job.graph.instances if not before.items(instance.id)]
        groups = {name: items for name, items in job.graph.groups.items() if name not in before.groups}
        # It refuses before anything is changed.
        self._scheduler.add(hands.nodes_of(job, fresh), groups, hands.now())
        self._job = job
        hands.adopt(job)
        hands.append(dataclasses.replace(expansion(job, fresh, ()), is_addition=True))
        return "added " + ", ".join(f"`{instance.id}`" for instance in fresh)

    def retry_task(self, task: str) -> str:
        """Try a task again."""
        opened = self._scheduler.retry(task, self._hands.now())
        return "trying again " + ", ".join(f"`{name}`" for name in opened or (task,))

    def answer(self, question: str, option: str, by: str) -> str:
        """Answer what an assistant asked."""
        return self._questions.answer(question, option, by)

    def send(self, task: str, text: str, by: str) -> str:
        """Pass a message to a running attempt, or to a workstream."""
        if self._flights.send(task, Message(text, by)):
            return "sent"
        mute = self._flights.mute(task)
        if self._hands.steer is not None and self._job.has_streams:
            said = self._hands.steer("send", {"name": task, "text": text}, by)
            return f"{mute}: {said}" if mute else said
        raise UsageError(mute or f"task `{task}` is not running")

    def steer(self, kind: str, args: Mapping[str, Any], by: str) -> str:
        """Do what somebody asks of a workstream, or of a task that waits for leave."""
        is_leave = kind in ("approve", "reject") and self._job.has_leave
        if self._hands.steer is None or not (self._job.has_streams or is_leave):
            raise UsageError(f"`{kind}` is for workstreams, and this run has none")
        if kind == "stop":
            name = str(args.get("name"))
            if not self._scheduler.cancel(name, f"stopped by {by}" if by else "stopped"):
                raise UsageError(f"`{name}` has already ended")
            return f"ending `{name}`; its worktree stays, if it has one"
        return self._hands.steer(kind, args, by)
