"""A person's leave for what a plain task came to (`approve: true`): nothing builds on it, or applies it, before.

What a person has seen is what counts: leave that was given for one result is not leave for another. So a task that
waits keeps its reply over the end of the process, and one that is done anew waits again. Whoever gives leave says for
which result (`Leave.result`): the reply may come to be another one meanwhile, also one that was paid for before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping

from msgspec import Struct, field

from parallelai.errors import CheckFailed, Unavailable, UsageError
from parallelai.events import (
    AttemptEnded,
    AttemptStarted,
    CommandDone,
    CommandReceived,
    Event,
    LeaveLapsed,
    RunStarted,
    TaskEnded,
    TaskStep,
)
from parallelai.records import Outcome, Reply
from parallelai.run.fingerprint import digest, reply_digest

STEP = "approve"
"""The kind of the step in which a task waits."""
WAITS = TaskStep("leave", "waiting")
"""What is written down when somebody is there, and is waited for."""
UNMET = "it waits for a person's leave"
"""How the error begins of what nobody was there to give leave for."""
LEAST_OF_A_MARK = 7
"""How many digits of a mark have to be given."""


class Leave(Struct):
    """What a run's events say.

    `given` are tasks that a person gave leave for, with the result that it was for; `lapsed` those that were done
    anew since, which nobody was told yet; `wanted` those that wait for leave; `refused` gives, for tasks that are to
    be done again, why a person refused what they came to; `shown` has the marks under which results were named.
    """

    given: dict[str, str] = field(default_factory=dict)
    lapsed: set[str] = field(default_factory=set)
    wanted: set[str] = field(default_factory=set)
    refused: dict[str, str] = field(default_factory=dict)
    shown: set[str] = field(default_factory=set)
    _asked: dict[int, CommandReceived] = field(default_factory=dict)
    _step: dict[str, str] = field(default_factory=dict)
    _grounds: dict[tuple[str, int | None], str] = field(default_factory=dict)
    _replies: dict[str, list[tuple[str, Reply]]] = field(default_factory=dict)
    _over: set[str] = field(default_factory=set)

    def take(self, event: Event) -> None:
        """Learn one event."""
        match event.data:
            case CommandReceived(kind="approve" | "reject") as command:
                self._asked[command.command] = command
            case CommandDone(ok=True) as done if done.command in self._asked:
                self._decided(self._asked.pop(done.command))
            case RunStarted():
                self._over.update(self._replies)
            case _ if event.task is not None:
                self._take_of_task(event.task, event.attempt, event.data)

    def _take_of_task(self, task: str, attempt: int | None, data: object) -> None:
        match data:
            case AttemptStarted():
                self._grounds[task, attempt] = data.fingerprint
            case AttemptEnded():
                grounds = self._grounds.pop((task, attempt), "")
                if data.ok and data.reply is not None:
                    self._replied(task, (grounds, data.reply), is_new=not data.is_cached)
            case TaskStep():
                self._step[task] = data.step
                if data.step == STEP:
                    self.wanted.add(task)
            case LeaveLapsed():
                self.given.pop(task, None)
                self.lapsed.discard(task)
            case TaskEnded():
                self._over.add(task)
                if is_kept_waiting(data, self._step.pop(task, None)):
                    self.shown.add(mark_of(task, self.result(task)))
                else:
                    self.wanted.discard(task)
                if data.result.status is Outcome.OK:
                    self.refused.pop(task, None)

    def _decided(self, command: CommandReceived) -> None:
        task = str(command.args.get("name"))
        self.lapsed.discard(task)
        if command.kind == "approve":
            self.given[task] = str(command.args.get("result") or "")
            return
        self.given.pop(task, None)
        if reason := str(command.args.get("reason") or ""):
            self.refused[task] = reason

    def _replied(self, task: str, reply: tuple[str, Reply], *, is_new: bool) -> None:
        if task in self._over:  # what it came to before is no more
            self._over.discard(task)
            self._replies.pop(task, None)
        self._replies.setdefault(task, []).append(reply)
        if is_new and self.given.pop(task, None) is not None:
            self.lapsed.add(task)

    def result(self, task: str) -> str:
        """What a task came to last, hashed: the replies that are its result, and what they depend on.

        Empty where there is none. "Nothing found" of one content of a file is another result than that of another.
        """
        replies = self._replies.get(task, ())
        return digest(sorted((grounds, reply_digest(reply)) for grounds, reply in replies)) if replies else ""

    def has_change(self, name: str) -> bool:
        """Whether what a task, or an instance of it, came to last holds a change, which `runs diff` shows."""
        replies = (
            reply
            for task, of_task in self._replies.items()
            if name in (task, task.split("@")[0].split("#")[0])
            for _, reply in of_task
        )
        return any(reply.change is not None and reply.change.files for reply in replies)

    def is_given(self, task: str) -> bool:
        """Whether what a task came to last may count."""
        result = self.result(task)
        return bool(result) and self.given.get(task) == result

    def has_lapsed(self, task: str) -> bool:
        """Whether leave was given for something else than what the task came to last, and nobody was told yet."""
        return task in self.lapsed or (task in self.given and not self.is_given(task))

    def take_all(self, events: Iterable[Event]) -> None:
        """Learn events in their order."""
        for event in events:
            self.take(event)


def mark_of(task: str, result: str) -> str:
    """A short name of what a task came to (`Leave.result`), by which a person says what was looked at."""
    return digest([(task, result)])[:12]


def looked_at(run: str, task: str, results: Mapping[str, str], mark: str, leave: Leave) -> dict[str, str]:
    """Give, of what a task or its instances came to, what a mark, or its beginning, names.

    Raises `UsageError` where that is nothing, or more than one; `leave` knows the marks that were shown before.
    """
    marks = {name: mark_of(name, result) for name, result in results.items()}
    found = {name: results[name] for name in marks if _begins(marks[name], mark)}
    if len(found) == 1:
        return found
    if found:
        raise UsageError(f"`{mark}` is the beginning of several marks", next="write more of it")
    if any(_begins(each, mark) for each in leave.shown):
        raise changed_since(run, task, leave)
    if len(results) > 1:
        raise UsageError(
            f"nothing that `{task}` came to has the mark `{mark}`",
            next=f"`{task}` is {len(results)} tasks: name one, such as `{next(iter(results))}`",
        )
    raise UsageError(
        f"`{mark}` is no mark of what `{task}` came to; it is `{next(iter(marks.values()))}`",
        next=f"{look_at(run, task, leave)}; then approve that",
    )


def _begins(mark: str, given: str) -> bool:
    return len(given) >= LEAST_OF_A_MARK and mark.startswith(given)


def look_at(run: str, task: str, leave: Leave) -> str:
    """Say how to look at what a task came to."""
    diff = f", `runs diff {run} {task}`" if leave.has_change(task) else ""
    return f"look at it: `parallelai runs show {run}`{diff}"


def changed_since(run: str, task: str, leave: Leave) -> UsageError:
    """The error of leave that is given for something else than what the task came to."""
    return UsageError(
        f"what `{task}` came to changed since you looked",
        next=f"{look_at(run, task, leave)}; then approve that",
    )


def is_kept_waiting(ended: TaskEnded, step: str | None) -> bool:
    """Whether a plain task ended while it waited for leave; `step` is the last one that it entered.

    Nobody was there to give it, or the run was interrupted.
    """
    result = ended.result
    is_unmet = result.status in (Outcome.BLOCKED, Outcome.CANCELLED)
    return is_unmet and step in (STEP, WAITS.step) and result.workstream is None


def refusal(run: str, reason: str, by: str) -> CheckFailed:
    """The error with which a task ends whose result a person refused."""
    said = f"it was refused by {by or 'somebody'}{f': {reason}' if reason else ''}"
    again = f"`parallelai runs resume {run}` does it again"
    return CheckFailed(
        said,
        next=f"{again}, and tells the assistant why"
        if reason
        else f"say in its description what is wanted; {again}",
    )


def told_before(reason: str) -> str:
    """What is added to the prompt of a task that is done again, because a person refused what it came to."""
    return f"\n\nA person looked at what came of this task before, and refused it: {reason}\n"


class Approvals:
    """The leave that is asked for in one run.

    Args:
        run: its id.
        leave: what earlier processes of it learned; is kept up with what happens.
        is_attended: somebody is there; else a task that waits ends `blocked`.
        flush: waits until what happened is known here (`take`).
        tell: writes down that a task waits for somebody, or that leave which it had has lapsed.
    """

    def __init__(
        self,
        run: str,
        leave: Leave,
        *,
        is_attended: bool,
        flush: Callable[[], Awaitable[None]],
        tell: Callable[[str, TaskStep | LeaveLapsed], None],
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
        if self._leave.is_given(task):
            return
        if self._leave.has_lapsed(task):
            self._tell(task, LeaveLapsed())
        if not self._is_attended:
            mark = mark_of(task, self._leave.result(task))
            raise Unavailable(
                UNMET,
                next=f"{look_at(self._run, task, self._leave)}; then"
                f" `parallelai work approve {task} --result {mark}` and `parallelai runs resume {self._run}`",
            )
        self._tell(task, WAITS)
        decided = self._waiting[task] = asyncio.get_running_loop().create_future()
        try:
            await decided
        finally:
            self._waiting.pop(task, None)

    def decide(self, kind: str, task: str, reason: str, by: str, result: str = "") -> str:
        """Take a person's word, `approve` or `reject`, and say what was done. Raises `UsageError`.

        `result` is what leave is given for (`Leave.result`).
        """
        waiting = self._waiting.get(task)
        is_waiting = waiting is not None and not waiting.done()
        if not is_waiting and (kind != "approve" or task not in self._before):
            raise UsageError(
                f"`{task}` does not wait for leave", next="`parallelai runs show` says what it does"
            )
        if kind == "approve" and (not result or result != self._leave.result(task)):
            raise changed_since(self._run, task, self._leave)
        if waiting is None or not is_waiting:
            # an earlier process of the run has asked; `leave` compares what it comes to in this one
            return f"`{task}` may go on"
        if kind == "approve":
            waiting.set_result(None)
            return f"`{task}` may go on"
        waiting.set_exception(refusal(self._run, reason, by))
        return f"`{task}` is refused"
