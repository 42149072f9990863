"""A person's leave for what a plain task came to (`approve: true`): nothing builds on it, or applies it, before.

What a person has seen is what counts: leave that was given for one result is not leave for another. So a task that
waits keeps its reply over the end of the process, and one that is done anew waits again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass, field

from parallelai.errors import CheckFailed, Unavailable, UsageError
from parallelai.events import AttemptEnded, CommandDone, CommandReceived, Event, TaskEnded, TaskStep
from parallelai.records import Outcome

STEP = "approve"
"""The kind of the step in which a task waits."""
WAITS = TaskStep("leave", "waiting")
"""What is written down when somebody is there, and is waited for."""


@dataclass(slots=True)
class Leave:
    """What a run's events say: `given` are tasks whose present result may count, `wanted` those that wait for it."""

    given: set[str] = field(default_factory=set)
    wanted: set[str] = field(default_factory=set)
    _asked: dict[int, str] = field(default_factory=dict)
    _step: dict[str, str] = field(default_factory=dict)

    def take(self, event: Event) -> None:
        """Learn one event."""
        match event.data:
            case CommandReceived(kind="approve") as command:
                self._asked[command.command] = str(command.args.get("name"))
            case CommandDone(ok=True) as done if done.command in self._asked:
                self.given.add(self._asked[done.command])
            case AttemptEnded(ok=True, is_cached=False) if event.task is not None:
                self.given.discard(event.task)
            case TaskStep() as entered if event.task is not None:
                self._step[event.task] = entered.step
                if entered.step == STEP:
                    self.wanted.add(event.task)
            case TaskEnded() as ended if event.task is not None:
                if not is_kept_waiting(ended, self._step.pop(event.task, None)):
                    self.wanted.discard(event.task)

    def take_all(self, events: Iterable[Event]) -> None:
        """Learn events in their order."""
        for event in events:
            self.take(event)


def is_kept_waiting(ended: TaskEnded, step: str | None) -> bool:
    """Whether a plain task ended because nobody was there to give leave; `step` is the last one that it entered."""
    result = ended.result
    return result.status is Outcome.BLOCKED and step == STEP and result.workstream is None


class Approvals:
    """The leave that is asked for in one run.

    Args:
        run: its id.
        leave: what earlier processes of it learned; is kept up with what happens.
        is_attended: somebody is there; else a task that waits ends `blocked`.
        flush: waits until what happened is known here (`take`).
        tell: writes down that a task waits for somebody.
    """

    def __init__(
        self,
        run: str,
        leave: Leave,
        *,
        is_attended: bool,
        flush: Callable[[], Awaitable[None]],
        tell: Callable[[str], None],
    ) -> None:
        self._run = run
        self._leave = leave
        self._is_attended = is_attended
        self._flush = flush
        self._tell = tell
        self._before: Collection[str] = frozenset(leave.wanted)
        self._waiting: dict[str, asyncio.Future[None]] = {}

    def take(self, events: Iterable[Event]) -> None:
        """Learn what was written down."""
        self._leave.take_all(events)

    async def leave(self, task: str) -> None:
        """Wait for leave. Raises `Unavailable` where nobody is there, `CheckFailed` where it was refused."""
        await self._flush()
        if task in self._leave.given:
            return
        if not self._is_attended:
            raise Unavailable(
                "it waits for a person's leave",
                next=f"look at it: `parallelai runs show {self._run}`, `runs diff {self._run} {task}`; then"
                f" `parallelai work approve {task}` and `parallelai runs resume {self._run}`",
            )
        self._tell(task)
        decided = self._waiting[task] = asyncio.get_running_loop().create_future()
        try:
            await decided
        finally:
            self._waiting.pop(task, None)

    def decide(self, kind: str, task: str, reason: str, by: str) -> str:
        """Take a person's word, `approve` or `reject`, and say what was done. Raises `UsageError`."""
        waiting = self._waiting.get(task)
        if waiting is None or waiting.done():
            if kind == "approve" and task in self._before:
                return f"`{task}` may go on"  # an earlier process of the run has asked, and its events say so now
            raise UsageError(
                f"`{task}` does not wait for leave", next="`parallelai runs show` says what it does"
            )
        if kind == "approve":
            waiting.set_result(None)
            return f"`{task}` may go on"
        said = f"it was refused by {by or 'somebody'}{f': {reason}' if reason else ''}"
        waiting.set_exception(
            CheckFailed(said, next="say in its description what is wanted, and resume the run")
        )
        return f"`{task}` is refused"
