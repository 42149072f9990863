"""Obey what other processes ask of a running run, through the commands table (CONTRACTS §8)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from parallelai.errors import ParallelAIError, UsageError
from parallelai.events import BudgetChanged, CommandDone, CommandReceived, RunPaused, RunResumed
from parallelai.plan.model import Budget
from parallelai.run.flights import Append
from parallelai.run.scheduler import Scheduler
from parallelai.store import Commands

POLL_SECONDS = 0.25


class Steered(Protocol):
    """What a run lets others do beside the scheduler's own verbs."""

    def add_task(self, task: Mapping[str, Any]) -> str:
        """Take another task in, and say which instances it gave."""

    def retry_task(self, task: str) -> str:
        """Try a task again."""

    def send(self, task: str, text: str, by: str) -> str:
        """Pass a message to a running attempt."""


class Steering:
    """Takes commands for one run. A command is answered exactly once, and never carried out twice."""

    def __init__(
        self, run: str, commands: Commands, scheduler: Scheduler, steered: Steered, append: Append
    ) -> None:
        self._run = run
        self._commands = commands
        self._scheduler = scheduler
        self._steered = steered
        self._append = append
        self._verbs: dict[str, Callable[[Mapping[str, Any], str], str]] = {
            "cancel": self._cancel,
            "pause": self._pause,
            "resume": self._resume,
            "retry": lambda args, by: steered.retry_task(_text(args, "task")),
            "add": lambda args, by: steered.add_task(args),
            "set-limit": self._set_limit,
            "set-budget": self._set_budget,
            "send": lambda args, by: steered.send(_text(args, "task"), _text(args, "text"), by),
        }

    def obey(self) -> bool:
        """Carry out what was asked since the last call; True if there was anything."""
        rows = self._commands.pending(self._run)
        for row in rows:
            args = dict(row.args)
            self._append(CommandReceived(row.seq, row.kind, args, row.by))
            ok, said = self._carry_out(row.kind, args, row.by)
            self._append(CommandDone(row.seq, ok, said))
            self._commands.done(row.seq, said)
        return bool(rows)

    def _carry_out(self, kind: str, args: Mapping[str, Any], by: str) -> tuple[bool, str]:
        verb = self._verbs.get(kind)
        if verb is None:
            return False, f"`{kind}` is for workstreams and assistants, which this version does not run yet"
        try:
            return True, verb(args, by)
        except ParallelAIError as error:
            return False, str(error)
        except ValueError as error:  # what pydantic says of arguments that are not right
            return False, f"`{kind}` was given something else than it takes: {error}"

    def _cancel(self, args: Mapping[str, Any], by: str) -> str:
        task = args.get("task")
        why = f"cancelled by {by}" if by else "cancelled"
        if not self._scheduler.cancel(None if task is None else str(task), why):
            raise UsageError(f"task `{task}` has already ended")
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
        self._append(BudgetChanged(budget.usd, budget.tokens, budget.time))
        return "the budget is changed"


def _text(args: Mapping[str, Any], name: str) -> str:
    value = args.get(name)
    if not isinstance(value, str) or not value:
        raise UsageError(f"`{name}` is missing")
    return value
