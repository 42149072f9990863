"""What earlier processes finished, read from the journal, so that a resumed run does nothing twice."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec import Struct, field

from parallelai.engines.protocol import Answer
from parallelai.events import (
    AttemptEnded,
    AttemptReserved,
    AttemptStarted,
    BudgetChanged,
    ChangeApplied,
    ChangeMade,
    CommandDone,
    CommandReceived,
    Event,
    PermissionAnswered,
    PermissionAsked,
    RunCreated,
    SessionOpened,
    TaskEnded,
    TaskReady,
    TaskStep,
    WorkspaceCreated,
    WorkstreamRevisited,
)
from parallelai.records import Outcome, Reply
from parallelai.run.approving import Leave, is_kept_waiting
from parallelai.run.asking import POLICY, Choice
from parallelai.run.workspaces import Measured

REJECTED = frozenset({Outcome.FAILED, Outcome.BLOCKED})
"""How a task ends whose replies were not good enough (a check failed): they are asked for again."""


class Answered(Struct, frozen=True):
    """An attempt that gave a valid reply, with the fingerprint of all that the reply depends on."""

    attempt: int
    engine: str
    reply: Reply
    fingerprint: str


class Interrupted(Struct, frozen=True):
    """An attempt that was cut off in its session, and the folder that it worked in."""

    attempt: int
    engine: str
    session: str
    fingerprint: str
    folder: str | None = None


class Prior(Struct):
    """The facts of earlier processes of a run.

    `ended` are tasks that ended `ok`; `answered` are replies that were paid for, by task, whatever came after
    them; `attempts` is the highest number used so far; `repeats` is how many replies of a task were not good
    enough; `added` are the tasks that `runs add` brought;
    `commands` are those that have their answer; `budget` is the last one that the run was given meanwhile;
    `spare` are replies of another run of the same that was killed, which the cache may lack;
    `changes` are what attempts changed; `interrupted` are sessions that can be gone on with, by task;
    `leave` is what persons said of tasks with `approve: true`, `chosen` what they chose where a task asked;
    `written` gives, for a file and the content that this run itself wrote into it, what was there before.
    """

    created: RunCreated | None = None
    ended: dict[str, TaskEnded] = field(default_factory=dict)
    answered: dict[str, dict[int, Answered]] = field(default_factory=dict)
    spare: dict[str, dict[int, Answered]] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)
    repeats: dict[str, int] = field(default_factory=dict)
    added: list[dict[str, Any]] = field(default_factory=list)
    commands: set[int] = field(default_factory=set)
    budget: BudgetChanged | None = None
    changes: dict[tuple[str, int], ChangeMade] = field(default_factory=dict)
    interrupted: dict[str, Interrupted] = field(default_factory=dict)
    written: dict[tuple[str, str | None], str | None] = field(default_factory=dict)
    leave: Leave = field(default_factory=Leave)
    chosen: dict[Choice, Answer] = field(default_factory=dict)

    def forget(self, task: str) -> None:
        """Begin a task anew: what is known of its work holds no more. Its attempts are counted on."""
        for known in (self.ended, self.answered, self.spare, self.interrupted):
            known.pop(task, None)

    def change(self, task: str) -> ChangeMade | None:
        """Give the change of a task that ended well."""
        ended = self.ended.get(task)
        by = ended.by[0] if ended is not None and ended.by else 0
        return self.changes.get((task, by))

    def answer(self, task: str, engine: str, fingerprint: str) -> Answered | None:
        """Give a reply that still holds for this task, engine and fingerprint."""
        return _holding(self.answered, task, engine, fingerprint)

    def spared(self, task: str, engine: str, fingerprint: str) -> Answered | None:
        """Give a reply of another run, where replies of other runs may be taken."""
        return _holding(self.spare, task, engine, fingerprint)

    def kept(self, task: str, fingerprint: str) -> TaskEnded | None:
        """Give the result of a task that ended well and on whose grounds nothing has changed."""
        ended = self.ended.get(task)
        return ended if ended is not None and ended.fingerprint == fingerprint else None


def _holding(
    known: dict[str, dict[int, Answered]], task: str, engine: str, fingerprint: str
) -> Answered | None:
    for answered in known.get(task, {}).values():
        if answered.fingerprint == fingerprint and answered.engine == engine:
            return answered
    return None


def read(events: Iterable[Event]) -> Prior:
    """Fold a run's events into what a later process has to know."""
    reader = _Reader()
    for event in events:
        reader.take(event)
    return reader.prior


class _Reader(Struct):
    prior: Prior = field(default_factory=Prior)
    asked: dict[int, dict[str, Any]] = field(default_factory=dict)
    started: dict[tuple[str, int], tuple[str, str]] = field(default_factory=dict)
    folders: dict[tuple[str, int], str] = field(default_factory=dict)
    steps: dict[str, str] = field(default_factory=dict)
    open: dict[tuple[str, str], PermissionAsked] = field(default_factory=dict)

    def take(self, event: Event) -> None:
        self.prior.leave.take(event)
        match event.data:
            case RunCreated() as created:
                self.prior.created = created
            case CommandReceived(kind="add") as command:
                self.asked[command.command] = dict(command.args)
            case CommandDone() as done:
                self.prior.commands.add(done.command)
                if done.ok and done.command in self.asked:
                    self.prior.added.append(self.asked.pop(done.command))
            case BudgetChanged() as changed:
                self.prior.budget = changed
            case WorkstreamRevisited(is_anew=True) as revisited:
                self.prior.forget(revisited.name)
            case ChangeApplied() as applied:
                self._take_written(applied)
            case _ if event.task is not None:
                self._take_of_task(event.task, event.attempt or 0, event.data)

    def _take_of_task(self, task: str, attempt: int, data: object) -> None:
        match data:
            case AttemptStarted() | AttemptEnded():
                self._take_attempt(task, attempt, data)
            case SessionOpened():
                self._take_session(task, attempt, data.session)
            case WorkspaceCreated():
                self.folders[task, attempt] = data.path
            case ChangeMade():
                self.prior.changes[task, attempt] = data
            case PermissionAsked() if not attempt:  # of an attempt it is leave for once
                self.open[task, data.question] = data
            case PermissionAnswered(by=by) if by != POLICY and (task, data.question) in self.open:
                asked = self.open.pop((task, data.question))
                self.prior.chosen[task, asked.what, asked.detail] = Answer(data.option, by)
            case TaskStep():
                self.steps[task] = data.step
            case TaskEnded():
                self._take_end(task, data)
        if isinstance(data, AttemptReserved | TaskReady):
            self.prior.ended.pop(task, None)  # it is done again: what it came to is no more

    def _take_session(self, task: str, attempt: int, session: str) -> None:
        engine, mark = self.started.get((task, attempt), ("", ""))
        folder = self.folders.get((task, attempt))
        self.prior.interrupted[task] = Interrupted(attempt, engine, session, mark, folder)

    def _take_written(self, applied: ChangeApplied) -> None:
        written = self.prior.written
        for path, (before, after) in applied.written.items():
            if applied.is_undone:
                written.pop((path, before), None)
            else:  # what lay there may itself be this run's: what counts is what lay there at first
                written[path, after] = written.get((path, before), before)

    def _take_end(self, task: str, ended: TaskEnded) -> None:
        prior = self.prior
        prior.ended.pop(task, None)
        if is_kept_waiting(ended, self.steps.pop(task, None)):
            return  # its reply is what a person gives leave for
        if ended.result.status is Outcome.OK:
            prior.ended[task] = ended
        elif ended.result.status in REJECTED:
            answered = prior.answered.pop(task, {})
            prior.repeats[task] = prior.repeats.get(task, 0) + len(answered)

    def _take_attempt(self, task: str, attempt: int, data: AttemptStarted | AttemptEnded) -> None:
        prior = self.prior
        prior.attempts[task] = max(attempt, prior.attempts.get(task, 0))
        if isinstance(data, AttemptStarted):
            self.started[task, attempt] = data.engine, data.fingerprint
            return
        if data.error is not None and data.error.kind != "timed_out":  # a failure is begun anew
            prior.interrupted.pop(task, None)
        if data.ok and data.reply is not None:
            prior.interrupted.pop(task, None)
            _, mark = self.started.get((task, attempt), ("", ""))
            prior.answered.setdefault(task, {})[attempt] = Answered(attempt, data.engine, data.reply, mark)


def measured_before(prior: Prior, task: str) -> Measured | None:
    """Give the change that a task, which ended well in an earlier process, made."""
    made = prior.change(task)
    return Measured(made.base, made.commit, made.files, made.kept_out) if made is not None else None
