"""Obey what other processes ask of a running run, through the commands table (CONTRACTS §8)."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Protocol

from parallelai.errors import ParallelAIError, UsageError
from parallelai.events import CommandDone, CommandReceived, RunPaused, RunResumed, RunStopping
from parallelai.plan.model import Budget
from parallelai.run.journaling import Append
from parallelai.run.scheduling.scheduler import Scheduler
from parallelai.store import CommandRow, Commands

POLL_SECONDS = 0.25
OF_WORKSTREAMS = ("approve", "reject", "lease", "land", "sync", "done", "drop", "stop")
"""Kinds that are about workstreams: the room that holds them carries them out."""
MOMENTARY = frozenset({"cancel", "pause", "resume", "send", "answer", "retry"})
"""Kinds that are about what the run is doing just then: a later process of the run does not carry them out."""


class Steered(Protocol):
    """What a run lets others do beside the scheduler's own verbs."""

    def add_task(self, task: Mapping[str, Any]) -> str:
        """Take another task in, and say which instances it gave."""

    def retry_task(self, task: str) -> str:
        """Try a task again."""

    def send(self, task: str, text: str, by: str) -> str:
        """Pass a message to a running attempt."""

    def answer(self, question: str, option: str, by: str) -> str:
        """Answer what an assistant asked."""

    def steer(self, kind: str, args: Mapping[str, Any], by: str) -> str:
        """Do what somebody asks of a workstream."""


class Steering:
    """Takes commands for one run. A command is answered exactly once, and never carried out twice.

    `answered` are the commands that the journal has an answer to. What it cannot hold any more is answered in
    the table only after its answer is on disk.
    """

    def __init__(
        self,
        run: str,
        commands: Commands,
        scheduler: Scheduler,
        steered: Steered,
        append: Append,
        flush: Callable[[], Awaitable[None]],
        answered: Collection[int] = (),
    ) -> None:
        self._run = run
        self._commands = commands
        self._scheduler = scheduler
        self._steered = steered
        self._append = append
        self._flush = flush
        self._answered = set(answered)

    async def begin(self) -> None:
        """Answer what was asked of an earlier process that did not live to hear it."""
        stale = [row for row in self._commands.pending(self._run) if row.kind in MOMENTARY]
        await self._refuse(stale, "the process that carried the run out had ended")

    async def obey(self, woken: Callable[[], None]) -> None:
        """Carry out what was asked since the last call; `woken` is called before anybody is told."""
        rows = self._commands.pending(self._run)
        said: dict[int, str] = {}
        for row in rows:
            if row.seq in self._answered:
                said[row.seq] = "done"
                continue
            args = dict(row.args)
            self._append(CommandReceived(row.seq, row.kind, args, row.by))
            ok, said[row.seq] = self._carry_out(row.kind, args, row.by)
            self._append(CommandDone(row.seq, ok, said[row.seq]))
            self._answered.add(row.seq)
        if rows:
            woken()
            await self._tell(said)

    async def end(self) -> None:
        """Answer what came too late."""
        await self._refuse(self._commands.pending(self._run), "the run has ended")

    async def _refuse(self, rows: Collection[CommandRow], why: str) -> None:
        for row in rows:
            if row.seq not in self._answered:
                self._append(CommandReceived(row.seq, row.kind, dict(row.args), row.by))
                self._append(CommandDone(row.seq, False, why))
                self._answered.add(row.seq)
        await self._tell({row.seq: why for row in rows})

    async def _tell(self, said: Mapping[int, str]) -> None:
        if said:
            await self._flush()
        for number, text in said.items():
            self._commands.done(number, text)

    def _carry_out(self, kind: str, args: Mapping[str, Any], by: str) -> tuple[bool, str]:
        verb = self._verbs().get(kind)
        if verb is None:
            return False, f"`{kind}` is nothing that this version does"
        try:
            return True, verb(args, by)
        except ParallelAIError as error:
            return False, str(error)
        except ValueError as error:  # what pydantic says of arguments that are not right
            return False, f"`{kind}` was given something else than it takes: {error}"

    def _verbs(self) -> dict[str, Callable[[Mapping[str, Any], str], str]]:
        """What there is to ask for. Made anew each time: kept, it and what it belongs to would hold each other."""
        steered = self._steered
        return {
            "cancel": self._cancel,
            "pause": self._pause,
            "resume": self._resume,
            "retry": lambda args, by: steered.retry_task(_text(args, "task")),
            "add": lambda args, by: steered.add_task(args),
            "set-limit": self._set_limit,
            "set-budget": self._set_budget,
            "send": lambda args, by: steered.send(_text(args, "task"), _text(args, "text"), by),
            "answer": lambda args, by: steered.answer(_text(args, "question"), _text(args, "option"), by),
            **{kind: functools.partial(steered.steer, kind) for kind in OF_WORKSTREAMS},
        }

    def _cancel(self, args: Mapping[str, Any], by: str) -> str:
        task = args.get("task")
        why = f"cancelled by {by}" if by else "cancelled"
        if not self._scheduler.cancel(None if task is None else str(task), why):
            raise UsageError(f"task `{task}` has already ended")
        if task is None:
            self._append(RunStopping(why))
        return f"cancelling {f'`{task}`' if task is not None else 'the run'}"

    def _pause(self, args: Mapping[str, Any], by: str) -> str:
        self._scheduler.pause()
        self._append(RunPaused(f"paused by {by}" if by else "paused"))
        return "no new starts; what is in flight goes on"

    def _resume(self, args: Mapping[str, Any], by: str) -> str:
        self._scheduler.resume()
        self._append(RunResumed(f"resumed by {by}" if by else "resumed"))
        return "going on"

    def _set_limit(self, args: Mapping[str, Any], by: str) -> str:
        parallel = args.get("parallel")
        if not isinstance(parallel, int) or isinstance(parallel, bool) or parallel < 1:
            raise UsageError("`parallel` is a whole number of at least 1")
        self._scheduler.set_parallel(parallel)
        return f"at most {parallel} at once"

    def _set_budget(self, args: Mapping[str, Any], by: str) -> str:
        budget = Budget.model_validate(dict(args))
        self._scheduler.set_budget(budget)
        return "the budget is changed"


def _text(args: Mapping[str, Any], name: str) -> str:
    value = args.get(name)
    if not isinstance(value, str) or not value:
        raise UsageError(f"`{name}` is missing")
    return value
