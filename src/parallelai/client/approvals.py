"""Leave for what tasks came to (`approve: true`): given or refused by a person, whoever carries the run out."""

from __future__ import annotations

import contextlib
import dataclasses
import getpass
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from parallelai.client.project import OpenProject
from parallelai.errors import BusyError, NotFoundError
from parallelai.events import CommandDone, CommandReceived, TaskEnded
from parallelai.records import Outcome, TaskResult
from parallelai.run.approving import Leave, changed_since, looked_at, refusal
from parallelai.run.report import Report
from parallelai.run.validation import record_of

Ask = Callable[[str, str, Mapping[str, Any]], Awaitable[str]]
"""Asks something of a run that is being carried out, by its kind and arguments; gives the answer."""


class Approvals:
    """What waits for a person's leave in the runs of a project. `ask` reaches a run that somebody carries out."""

    def __init__(self, project: OpenProject, ask: Ask) -> None:
        self._project = project
        self._ask = ask

    async def approve(self, task: str, result: str | None = None) -> str:
        """Give leave that what a task came to counts (`approve: true`), and its dependents go on.

        It is of the latest run in which it waits, and leave is for what it came to there. `result` is the mark of
        what the person looked at (`approving.mark_of`), of several instances the one's that has it; by default
        all that it came to when this is called.

        Raises:
            NotFoundError: no task of that name waits.
            UsageError: it came to something else meanwhile.
        """
        run, tasks = self._waiting(task)
        if result is not None:
            tasks = looked_at(run, task, tasks, result, self.leave(run))
        shown = ", ".join(f"`{each}`" for each in tasks)
        if not self._project.store.journal.is_owned(run):
            with contextlib.suppress(BusyError):  # somebody goes on with it since: that process is asked
                await self._give_leave(run, tasks)
                return f"approved {shown} of run {run}: `parallelai runs resume {run}` goes on with it"
        for each, was in tasks.items():
            await self._ask(run, "approve", {"name": each, "result": was})
        return f"approved {shown} of run {run}"

    async def _give_leave(self, run: str, tasks: Mapping[str, str]) -> None:
        """Write down a person's leave for what tasks came to, in a run that nobody carries out.

        Raises:
            BusyError: somebody carries it out now.
            UsageError: somebody did since `tasks` was looked at, and one of them came to something else.
        """
        by, store = user(), self._project.store
        async with store.journal.writer(run) as writer:  # nobody goes on with it while this looks and writes
            leave = self.leave(run)
            for task, result in tasks.items():
                if task not in leave.wanted or leave.result(task) != result:
                    raise changed_since(run, task, leave)
            numbers = []
            for task, result in tasks.items():
                args = {"name": task, "result": result}
                numbers.append(store.commands.ask(run, "approve", args, by))
                writer.append(CommandReceived(numbers[-1], "approve", args, by))
                writer.append(CommandDone(numbers[-1], True, f"`{task}` may go on"))
            await writer.flush()
        for number in numbers:
            store.commands.done(number, "it may go on")

    async def reject(self, task: str, reason: str = "") -> str:
        """Refuse what a task came to: it ends `failed`, and is done again when the run goes on.

        It is of the latest run in which it waits. Whoever does it is told the reason then. Raises as `approve` does.
        """
        run, tasks = self._waiting(task)
        shown = ", ".join(f"`{each}`" for each in tasks)
        if not self._project.store.journal.is_owned(run):
            for each in tasks:
                await self._refuse(run, each, reason)
            return f"refused {shown} of run {run}: `parallelai runs resume {run}` does it again"
        for each in tasks:
            await self._ask(run, "reject", {"name": each, "reason": reason})
        return f"refused {shown} of run {run}"

    async def _refuse(self, run: str, task: str, reason: str) -> None:
        """Write down that a person refused what a task came to, in a run that nobody carries out."""
        by, args = user(), {"name": task, "reason": reason}
        store = self._project.store
        waits = TaskEnded(TaskResult(id=task, status=Outcome.BLOCKED))  # a killed run wrote down no end
        report = Report()
        for event in store.journal.events(run):
            report.take(event)
        ended = report.results.get(task, waits)
        error = record_of(refusal(run, reason, by))
        result = dataclasses.replace(ended.result, status=Outcome.FAILED, error=error)
        async with store.journal.writer(run) as writer:
            number = store.commands.ask(run, "reject", args, by)
            writer.append(CommandReceived(number, "reject", args, by))
            writer.append(dataclasses.replace(ended, result=result), task=task)
            writer.append(CommandDone(number, True, f"`{task}` is refused"))
            await writer.flush()
        store.commands.done(number, f"`{task}` is refused")

    def leave(self, run: str) -> Leave:
        """Fold what the events of a run say of leave."""
        leave = Leave()
        leave.take_all(self._project.store.journal.events(run))
        return leave

    def waits(self, name: str) -> bool:
        """Whether a task of this name waits for leave in some run."""
        try:
            self._waiting(name)
        except NotFoundError:
            return False
        return True

    def _waiting(self, name: str) -> tuple[str, dict[str, str]]:
        """The latest run in which a task of this name waits for leave, and what it came to (`Leave.result`).

        It is one task, or the instances of one. Raises `NotFoundError`.
        """
        latest = self._project.latest_run()
        for row in self._project.store.journal.runs():
            if row.outcome is not Outcome.OK and self._may_wait(row.id, name):
                leave = self.leave(row.id)
                found = sorted(each for each in leave.wanted if name in (each, task_of(each)))
                if found:
                    return row.id, {each: leave.result(each) for each in found}
        waits = ", ".join(f"`{each}`" for each in sorted(self.leave(latest.id).wanted)) or "none"
        said = f"no workstream is called `{name}`, and no task of that name waits for leave"
        raise NotFoundError(said, next=f"tasks of run `{latest.id}` that wait: {waits}")

    def _may_wait(self, run: str, name: str) -> bool:
        """Whether a run has a task of this name that has not ended, is blocked, or was interrupted."""
        return any(
            name in (row.id, task_of(row.id)) and row.status in (None, Outcome.BLOCKED, Outcome.CANCELLED)
            for row in self._project.store.journal.tasks(run)
        )


def task_of(instance: str) -> str:
    """The task that an instance is of: `review` of `review@src/a.py#2`."""
    return instance.split("@")[0].split("#")[0]


def user() -> str:
    """Who asks. In a container the user may have a number and no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
