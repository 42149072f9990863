"""`ai.runs`: look at runs, steer them, go on with them, also those of other processes."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from msgspec import Struct

from parallelai.client.approvals import Approvals, task_of, user
from parallelai.client.in_checkout import document_of
from parallelai.client.leave_given import with_leave
from parallelai.client.not_running import not_running
from parallelai.client.options import CarryOut
from parallelai.client.project import OpenProject
from parallelai.client.pruning import Holding, end, holding
from parallelai.client.taken_back import TYPES, with_undone
from parallelai.client.workstreams.landed_branches import KIND, again, land_again
from parallelai.engines.protocol import Question
from parallelai.errors import BusyError, NotFoundError, UsageError
from parallelai.events import (
    AttemptEnded,
    AttemptReserved,
    CommandDone,
    Event,
    PermissionAnswered,
    PermissionAsked,
    RunStarted,
    event_to_json,
)
from parallelai.records import ErrorRecord, Outcome, Reply, RunDocument
from parallelai.results.compare import Comparison, compare
from parallelai.results.document import run_outcome
from parallelai.run.report import Report
from parallelai.run.unfinished import Unfinished, unfinished
from parallelai.store import RunRow
from parallelai.store.projections import UNFINISHED
from parallelai.work.streams.registry import Streams

ANSWER_SECONDS = 5.0
"""How long a run may take to answer."""
_POLL_SECONDS = 0.05
BY_HAND = "by hand"
"""The state of a run that nobody carried out: its workstreams were started, and are worked on, by a person."""
OPEN = ("running", "paused", "interrupted")
"""The states of a run that has not ended."""
LATEST = "latest"
"""What may stand for a run's id."""


class Resume(Protocol):
    """How a run is gone on with."""

    def __call__(self, run: str, carry: CarryOut) -> Awaitable[RunDocument]: ...


class RunState(Struct, frozen=True):
    """A line of `runs list`. `state` is running, paused, interrupted, by hand, or the run's outcome."""

    row: RunRow
    state: str


@dataclass(frozen=True, slots=True)
class AttemptLog:
    """What an attempt of a task printed: the file of its stream; it is there only if it printed anything.

    `reply` and `error` are what it came to; None where it did not, or has not ended.
    """

    task: str
    attempt: int
    engine: str
    path: Path
    reply: Reply | None = None
    error: ErrorRecord | None = None


class Runs:
    """The runs of a project. Where a run's id is asked for, None is the latest, and a unique beginning is enough."""

    def __init__(self, project: OpenProject, resume: Resume) -> None:
        self._project = project
        self._resume = resume
        self._approvals = Approvals(project, self.ask)

    def list(self) -> tuple[RunState, ...]:
        """Give all runs, the newest first."""
        if not self._project.has_store:
            return ()
        return tuple(RunState(row, self._state(row)) for row in self._project.store.journal.runs())

    def is_interrupted(self, run: str) -> bool:
        """Whether whoever carried a run out was killed; also False where nothing is known of it."""
        try:
            return self._state(self.find(run)) == "interrupted"
        except NotFoundError:
            return False

    def is_kept(self, run: str) -> bool:
        """Whether a run is there: not one that `runs delete` or `runs prune` deleted. `run` is a whole id."""
        try:
            return self.find(run).id == run
        except NotFoundError:
            return False

    def find(self, run: str | None = None) -> RunRow:
        """Find a run; `latest` is the latest, too. Raises `NotFoundError`."""
        if run is None or run == LATEST or not self._project.has_store:
            return self._project.latest_run()
        return self._project.store.journal.run(run)

    def named(self, run: str | None, task: str | None) -> tuple[str, str | None]:
        """Give the run and the task that are meant; a single name may be a task of the latest run.

        Raises:
            NotFoundError: it is neither a run nor such a task.
        """
        try:
            return self.find(run).id, task
        except NotFoundError:
            if run is None or task is not None or not self._latest_has(run):
                raise
            return self.find().id, run

    def _latest_has(self, task: str) -> bool:
        latest = self._project.store.journal.latest() if self._project.has_store else None
        if latest is None:
            return False
        return any(task in (name, task_of(name)) for name in self.report(latest.id).order)

    def state(self, run: str | None = None) -> RunState:
        """Say how a run stands."""
        row = self.find(run)
        return RunState(row, self._state(row))

    def going_on(self, run: str | None = None) -> str:
        """Give the command that goes on with a run that was interrupted."""
        row = self.find(run)
        if row.kind == KIND:
            from parallelai.client.recorded import created

            return again(created(self._project.store.journal, row.id))
        return f"parallelai runs resume {row.id}"

    def report(self, run: str | None = None) -> Report:
        """Fold a run's events."""
        report = Report()
        for event in self.events(run):
            report.take(event)
        return report

    def show(self, run: str | None = None) -> RunDocument:
        """Give a run's document, as it now stands, and as its changes are in the checkout and on the target now."""
        streams = Streams(self._project.state)
        document = with_leave(
            document_of(self.report(run), self._project.root), self._approvals.leave, streams
        )
        journal = self._project.store.journal
        return with_undone(document, lambda: journal.events(document.run, types=TYPES), streams)

    def left(self, run: str | None = None) -> tuple[str, ...]:
        """Name the tasks of a run that did not end well yet, in plan order."""
        report = self.report(run)
        ended = {result.id: result.status for result in report.tasks()}
        return tuple(task for task in report.order if ended.get(task) is not Outcome.OK)

    def unfinished(self, run: str | None = None) -> tuple[Unfinished, ...]:
        """Say where the tasks of a run stand that have not ended, in plan order."""
        return unfinished(self.events(run))

    def events(self, run: str | None = None, *, after: int = 0) -> Iterator[Event]:
        """Give a run's events after a sequence number."""
        row = self.find(run)  # first: where there is no run, no journal is made
        return self._project.store.journal.events(row.id, after=after)

    def follow(self, run: str | None = None, *, after: int = 0) -> AsyncIterator[Event]:
        """Give a run's events as they come, until it ends or nobody carries it out."""
        row = self.find(run)
        return self._project.store.journal.tail(row.id, after=after)

    def logs(self, run: str | None = None, task: str | None = None) -> tuple[AttemptLog, ...]:
        """Give the logs of a run's attempts, or of one task's. Raises `NotFoundError` for an unknown task."""
        row = self.find(run)
        folder = self._project.state / "runs" / row.id
        logs: dict[tuple[str, int], AttemptLog] = {}
        types = {AttemptReserved.type, AttemptEnded.type}
        for event in self._project.store.journal.events(row.id, types=types):
            id = (event.task or "", event.attempt or 0)
            match event.data:
                case AttemptReserved(engine=engine):
                    logs[id] = AttemptLog(*id, engine, folder / "attempts" / f"{event.seq}.jsonl")
                case AttemptEnded(reply=reply, error=error) if id in logs:
                    logs[id] = dataclasses.replace(logs[id], reply=reply, error=error)
        if task is None:
            return tuple(logs.values())
        found = [log for log in logs.values() if task in (log.task, task_of(log.task))]
        if not found:
            raise NotFoundError(f"run `{row.id}` has no attempt of a task `{task}`", next="see `runs show`")
        return tuple(found)

    def compare(self, a: str, b: str | None = None) -> Comparison:
        """Say what was fixed, what is new and what stayed from run `a` to run `b`, which has to be another one."""
        if self.find(a).id == self.find(b).id:
            others = len(self._project.store.journal.runs()) > 1
            said = (
                "a run is not compared with itself"
                if others
                else "there is only one run: nothing to compare with"
            )
            raise UsageError(
                said,
                next="name another one: `parallelai runs list`" if others else "do it again, then compare",
            )
        return compare(self.show(a), self.show(b))

    def export(self, run: str | None = None) -> Iterator[str]:
        """Give a run's events as lines of JSON, in the shape of CONTRACTS §8."""
        return (event_to_json(event) for event in self.events(run))

    async def resume(self, run: str | None = None, carry: CarryOut | None = None) -> RunDocument | None:
        """Go on with a run. A live one that is paused is told to go on, and None is given.

        Raises `BusyError` where it is just stopping.
        """
        from parallelai.client.recorded import created, refuse_stopping

        row = self.find(run)
        if row.kind == KIND:
            raise land_again(created(self._project.store.journal, row.id))
        refuse_stopping(self._project.store.journal, row.id)
        if self._project.store.journal.is_owned(row.id):
            await self.ask(row.id, "resume", {})
            return None
        return await self._resume(row.id, carry or CarryOut())

    async def cancel(self, run: str | None = None, task: str | None = None) -> str:
        """Cancel a task of a running run, or all that is left of it."""
        return await self.ask(run, "cancel", {"task": task} if task is not None else {})

    async def pause(self, run: str | None = None) -> str:
        """Let a running run start nothing more until it is resumed."""
        return await self.ask(run, "pause", {})

    async def add(self, run: str | None, task: Mapping[str, Any]) -> str:
        """Give a running run another task, as a plan has it."""
        return await self.ask(run, "add", dict(task))

    async def retry(self, run: str | None, task: str) -> str:
        """Let a running run try a task again. Raises as `ask` does."""
        row = self.find(run)
        if task in self._approvals.leave(row.id).wanted and not self._project.store.journal.is_owned(row.id):
            raise UsageError(
                f"`{task}` waits for a person's leave",
                next=f"`parallelai work approve {task}`, or `work reject {task} --reason TEXT` and"
                f" `parallelai runs resume {row.id}`, which does it again",
            )
        return await self.ask(run, "retry", {"task": task})

    async def send(self, run: str | None, task: str, text: str) -> str:
        """Tell the assistant that works on a task something, in its session."""
        return await self.ask(run, "send", {"task": task, "text": text})

    async def answer(self, run: str | None, question: str, option: str) -> str:
        """Answer what an assistant asked leave for."""
        return await self.ask(run, "answer", {"question": question, "option": option})

    def questions(self, run: str | None = None) -> tuple[Question, ...]:
        """Give the questions of a run that nobody has answered yet."""
        asked: dict[str, Question] = {}
        for event in self.events(run):
            match event.data:
                case PermissionAsked() as data:
                    detail = data.detail
                    asked[data.question] = Question(data.question, data.what, data.options, detail)
                case PermissionAnswered() as answer:
                    asked.pop(answer.question, None)
                case RunStarted():  # who asked in an earlier process is gone
                    asked.clear()
        return tuple(asked.values())

    async def set_limit(self, run: str | None, parallel: int) -> str:
        """Change how much a running run does at once."""
        return await self.ask(run, "set-limit", {"parallel": parallel})

    async def set_budget(self, run: str | None, budget: Mapping[str, Any]) -> str:
        """Change the totals that a running run may use."""
        return await self.ask(run, "set-budget", dict(budget))

    async def ask(self, run: str | None, kind: str, args: Mapping[str, Any]) -> str:
        """Ask something of a run that is being carried out, and wait for its answer.

        Raises:
            UsageError: nobody carries it out, or it cannot be done as asked; the error says what to do.
            BusyError: its process did not answer in time; the command stays asked for.
        """
        row = self.find(run)
        store = self._project.store
        if not store.journal.is_owned(row.id):
            raise not_running(row.id, self._state(row), self.going_on(row.id))
        number = store.commands.ask(row.id, kind, args, user())
        answer = self._answer(row.id, number)
        deadline = time.monotonic() + ANSWER_SECONDS
        while answer is None:
            if time.monotonic() > deadline:
                raise BusyError(f"run `{row.id}` has not answered yet", next="it will: see `runs logs`")
            await asyncio.sleep(_POLL_SECONDS)
            answer = self._answer(row.id, number)
        if not answer.ok:
            raise UsageError(answer.said or f"`{kind}` was refused")
        return answer.said or "done"

    async def approve(self, task: str, result: str | None = None) -> str:
        """Give leave that what a task came to counts, as `Approvals.approve`."""
        return await self._approvals.approve(task, result)

    async def reject(self, task: str, reason: str = "") -> str:
        """Refuse what a task came to, as `Approvals.reject`."""
        return await self._approvals.reject(task, reason)

    def waits(self, name: str) -> bool:
        """Whether a task of this name waits for leave in some run."""
        return self._approvals.waits(name)

    def _answer(self, run: str, command: int) -> CommandDone | None:
        """The answer to a command, once it is in the journal: that alone says whether it was done."""
        store = self._project.store
        if store.commands.get(command).done_at is None:
            return None
        answers = (event.data for event in store.journal.events(run, types={CommandDone.type}))
        return next((a for a in answers if isinstance(a, CommandDone) and a.command == command), None)

    async def delete(self, run: str) -> str:
        """Delete a run with its logs and what it keeps.

        Raises `BusyError` if it is being carried out, and `UsageError` if it keeps work that nobody has taken.
        """
        row = self.find(run)
        held = await holding(self._project, (row.id,))
        if row.id in held:
            raise held[row.id].error
        await end(self._project, (row.id,))
        return row.id

    async def finished(self, keep: int = 0) -> tuple[tuple[str, ...], tuple[Holding, ...]]:
        """Name all runs that ended by themselves, but the newest `keep`: nothing is lost without them.

        Those that keep work which nobody has taken are parted from them.
        """
        if keep < 0:
            raise UsageError("`keep` is a number of runs", next="write `--keep 20`, say")
        ended = [state.row.id for state in self.list() if state.state not in (*OPEN, BY_HAND)]
        held = await holding(self._project, ended[keep:])
        return tuple(run for run in ended[keep:] if run not in held), tuple(held.values())

    async def prune(self, keep: int) -> tuple[str, ...]:
        """Delete the finished runs but the newest `keep`, and but those that keep work; gives their ids."""
        doomed, _ = await self.finished(keep)
        await end(self._project, doomed)
        return doomed

    def _state(self, row: RunRow) -> str:
        if self._project.store.journal.is_owned(row.id):
            told = self._project.store.journal.events(
                row.id, types=("run.started", "run.paused", "run.resumed")
            )
            return "paused" if [event.type for event in told][-1:] == ["run.paused"] else "running"
        if row.outcome is Outcome.FAILED and not row.tasks.get(UNFINISHED):
            counted = {each: row.tasks.get(each, 0) for each in Outcome}
            return str(run_outcome(counted))  # what failed may have landed since, by hand
        if row.outcome is None and row.started_at is None and not row.tasks.get(UNFINISHED):
            return BY_HAND
        return str(row.outcome) if row.outcome is not None else "interrupted"
