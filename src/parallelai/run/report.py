"""The run document, folded from a run's events: the same for a run that just ended and for an old one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime

from parallelai.events import (
    AttemptEnded,
    AttemptReserved,
    AttemptStarted,
    ChangeApplied,
    ChangeMade,
    ChangeRefused,
    Event,
    FindingRecorded,
    LandingAsked,
    RunCreated,
    RunEnded,
    RunStarted,
    TaskEnded,
    TaskExpanded,
    TaskReady,
    TaskStep,
    TurnEnded,
    TurnStarted,
)
from parallelai.records import (
    FREE,
    Coverage,
    FileNote,
    Finding,
    Outcome,
    Reply,
    RunDocument,
    TaskResult,
    Usage,
    changed,
)
from parallelai.results.collect import Reported
from parallelai.results.document import counts, join_coverage
from parallelai.run.workspaces import Digests

WORK = frozenset({AttemptReserved, TaskStep, ChangeApplied, ChangeRefused})
"""Events by which a process that goes on with a run shows that something was left to do."""
_OF_ATTEMPTS = frozenset({AttemptStarted, TurnStarted, TurnEnded})


class Report:
    """What is known of a run after some of its events. Feed it every event, in order, with `take`.

    `usage` is unknown as soon as a part of it is.
    """

    def __init__(self) -> None:
        self.created: RunCreated | None = None
        self.run = ""
        self.ended: RunEnded | None = None
        self.order: list[str] = []
        self.files: dict[str, tuple[str, ...]] = {}
        self.editing: set[str] = set()
        self.is_review = False
        self.skipped: tuple[FileNote, ...] = ()
        self.results: dict[str, TaskEnded] = {}
        self.replies: dict[str, dict[int, AttemptEnded]] = {}
        self.usage: Usage | None = None
        self.asked: list[LandingAsked] = []
        self.seconds_one_by_one = 0.0
        self.findings: tuple[Finding, ...] | None = None
        self.dropped: dict[str, int] = {"quote_not_found": 0}
        self.changes: dict[str, ChangeMade] = {}
        self.is_applied: dict[str, bool] = {}
        self.written: dict[str, dict[str, Digests]] = {}
        self.refusals: dict[str, ChangeRefused] = {}
        self._seconds_before = 0.0
        self._span: tuple[str, str] | None = None
        self._has_worked = True

    def take(self, event: Event) -> None:
        """Learn one event."""
        self.run = event.run
        is_carried_out = self.ended is None and not isinstance(event.data, RunStarted)
        if self._span is not None and is_carried_out:
            self._span = (self._span[0], event.at)  # the time until a next process came is nobody's work
        data = event.data
        if type(data) in WORK:
            self._has_worked = True
        if type(data) in _OF_ATTEMPTS:  # most events: an attempt's course, of which only the end counts here
            return
        match data:
            case AttemptEnded():
                self._take_attempt(event, data)
            case LandingAsked():
                self.asked.append(data)
                self._use(data.usage)
            case TaskEnded() if event.task is not None:
                self.results[event.task] = data
            case AttemptReserved() | TaskReady() if event.task is not None:
                self.results.pop(event.task, None)  # it is done again: what it came to is no more
            case TaskExpanded():
                self._take_expansion(data)
            case ChangeMade() | ChangeApplied() | ChangeRefused() if event.task is not None:
                self._take_change(event.task, data)
            case _:
                self._take_course(event.at, data)

    def _take_course(self, at: str, data: object) -> None:
        """Learn something about the run as a whole."""
        match data:
            case RunCreated():
                self.created = data
            case RunStarted():
                self._seconds_before = self.seconds
                self._span = (at, at)
                self._has_worked = not data.is_resume
                self.ended, self.findings = None, None
                self.refusals.clear()  # whoever goes on may apply them again, or not
            case FindingRecorded():
                self.findings = data.findings
                self.dropped = {**self.dropped, **data.dropped}
            case RunEnded():
                self.ended = data

    def _take_change(self, task: str, data: ChangeMade | ChangeApplied | ChangeRefused) -> None:
        if isinstance(data, ChangeRefused) and data.is_undo:
            return  # it is where it was
        self.refusals.pop(task, None)
        match data:
            case ChangeMade():
                self.changes[task] = data
                self._not_applied(task)
            case ChangeApplied(is_undone=True):
                self._not_applied(task)
            case ChangeApplied():
                self.is_applied[task] = True
                self.written.setdefault(task, {}).update(data.written)
            case ChangeRefused():  # an applied one stays applied: nothing was written
                self.refusals[task] = data

    def _not_applied(self, task: str) -> None:
        self.is_applied.pop(task, None)
        self.written.pop(task, None)

    def made(self) -> tuple[str, ...]:
        """Name the tasks that have a change that holds something, however they ended, in plan order."""
        return tuple(task for task in self.order if task in self.changes and self.changes[task].files)

    def changed(self) -> tuple[str, ...]:
        """Name the tasks that ended well and have a change that holds something, in plan order."""
        return tuple(
            task
            for task in self.order
            if task in self.changes
            and self.changes[task].files
            and task in self.results
            and self.results[task].result.status is Outcome.OK
            and self.results[task].result.workstream is None  # which has landed
        )

    def kept(self) -> dict[str, str]:
        """The patches of what tasks changed that failed or are blocked, in plan order: no changes to be taken."""
        bad = (Outcome.FAILED, Outcome.BLOCKED)
        found = {}
        for task in self.order:
            if task in self.results and self.results[task].result.status in bad:
                attempts = self.replies.get(task, {})
                patches = [attempts[number].kept for number in sorted(attempts)]
                found[task] = next((patch for patch in reversed(patches) if patch is not None), None)
        return {task: patch for task, patch in found.items() if patch is not None}

    def unapplied(self) -> tuple[str, ...]:
        """Name the tasks whose changes were not put into the user's checkout, in plan order."""
        return tuple(task for task in self.changed() if not self.is_applied.get(task, False))

    def _take_attempt(self, event: Event, data: AttemptEnded) -> None:
        if event.task is None or event.attempt is None:
            return
        self.replies.setdefault(event.task, {})[event.attempt] = data
        if data.ok or data.error is not None:  # one that was cancelled would have gone on
            self.seconds_one_by_one += data.seconds
        self._use(None if data.is_cached else data.usage)

    def _use(self, usage: Usage | None) -> None:
        if usage is not None:
            self.usage = usage if self.usage is None else self.usage + usage

    def _take_expansion(self, data: TaskExpanded) -> None:
        if not data.is_addition:  # a process starts or goes on: what did not end well is to be done again
            self.order.clear()
            self.files.clear()
            self.editing.clear()
            self.is_review = False
            self.skipped = ()
            self.results = {
                task: ended for task, ended in self.results.items() if ended.result.status is Outcome.OK
            }
        self.order.extend(data.items)
        self.files.update(data.files)
        self.editing.update(data.editing)
        self.is_review |= data.is_review
        self.skipped += data.skipped

    @property
    def spent(self) -> Usage:
        """All that is known of what was used, for budgets."""
        ended = [
            data for attempts in self.replies.values() for data in attempts.values() if not data.is_cached
        ]
        used = [*(data.usage for data in ended), *(data.usage for data in self.asked)]
        return sum((_known(usage) for usage in used if usage is not None), Usage(0, 0, 0, 0, 0.0))

    @property
    def seconds(self) -> float:
        """How long processes worked on the run, without the time between them.

        A process that went on with the run and found nothing to do took none.
        """
        if self._span is None or not self._has_worked:
            return self._seconds_before
        began, latest = (datetime.fromisoformat(at) for at in self._span)
        return self._seconds_before + max((latest - began).total_seconds(), 0.0)

    def reply(self, task: str) -> Reply | None:
        """Give the reply of a finished task: of several attempts (a vote) the joined one."""
        ended = self.results.get(task)
        attempts = self.replies.get(task, {})
        if ended is not None and len(ended.by) == 1:
            only = attempts.get(ended.by[0])
            return only.reply if only is not None else None
        replies = [attempts[n].reply for n in (ended.by if ended else ()) if n in attempts]
        return join(reply for reply in replies if reply is not None)

    def reported(self, is_model: Callable[[str], bool] = lambda engine: False) -> Iterator[Reported]:
        """Give every reply that counts and has to do with files, with who gave it, in plan order.

        `is_model` says of an engine whether its findings hold only with a quote that stands in the file.
        """
        for task in self.order:
            ended = self.results.get(task)
            for number in ended.by if ended is not None else ():
                attempt = self.replies.get(task, {}).get(number)
                if attempt is None or attempt.reply is None:
                    continue
                files = self.files.get(task, ())
                if files or attempt.reply.findings:
                    yield Reported(task, attempt.engine, attempt.reply, is_model(attempt.engine), files)

    def tasks(self) -> tuple[TaskResult, ...]:
        """Give the results of the tasks that have ended, in plan order, without their texts."""
        return tuple(self.results[task].result for task in self._ended())

    def _ended(self) -> list[str]:
        """The tasks that have ended, in plan order; where nobody carried a plan out, those that a person ended."""
        return [task for task in self.order or self.results if task in self.results]

    def coverage(self) -> Coverage:
        """Say of each file that somebody asked about what became of it; what is to be changed is not looked at."""
        asked = (
            self._coverage(task, files) for task, files in self.files.items() if task not in self.editing
        )
        return join_coverage([*asked, Coverage(skipped=self.skipped)])

    def _coverage(self, task: str, files: tuple[str, ...]) -> Coverage:
        ended, reply = self.results.get(task), self.reply(task)
        if ended is not None and ended.result.status is Outcome.OK and reply is not None:
            return reply.coverage or Coverage(covered=files)
        error = ended.result.error if ended is not None else None
        status = ended.result.status if ended is not None else "not done"
        why = error.said if error is not None else str(status)
        notes = tuple(FileNote(file, why) for file in files)
        return Coverage(skipped=notes) if status == Outcome.SKIPPED else Coverage(failed=notes)

    def document(self) -> RunDocument:
        """Make the document of the run as it now stands."""
        ended = self.ended
        return RunDocument(
            run=self.run,
            plan=self.created.plan if self.created is not None else None,
            exit=ended.exit if ended is not None else 4,
            outcome=ended.outcome if ended is not None else Outcome.CANCELLED,
            seconds=round(self.seconds, 3),
            seconds_one_by_one=round(self.seconds_one_by_one, 3),
            counts=counts(self.tasks()),
            usage=self.usage or FREE,
            tasks=tuple(self._row(task) for task in self._ended()),
            findings=self.findings or (),
            dropped=self.dropped,
            files=self.coverage(),
            is_review=self.is_review,
        )

    def _row(self, task: str) -> TaskResult:
        reply = self.reply(task)
        result = self.results[task].result
        if reply is None:
            return result
        good = [a for n in self.results[task].by if (a := self.replies.get(task, {}).get(n)) is not None]
        voters = tuple(dict.fromkeys(attempt.engine for attempt in good)) if len(good) > 1 else ()
        is_reused = bool(good) and all(attempt.is_cached for attempt in good)
        if voters or is_reused:
            result = changed(result, voters=voters, reused=is_reused)
        change = reply.change
        if change is not None:
            refusal = self.refusals.get(task)
            why = ", ".join((refusal.why, *refusal.paths)) if refusal is not None else None
            change = dataclasses.replace(change, applied=self.is_applied.get(task, False), why=why)
        return changed(result, text=_told(good) if voters else reply.text, change=change)


def _told(attempts: Iterable[AttemptEnded]) -> str | None:
    """What several engines said of the same task, each under its name."""
    said = ((each.engine, each.reply.text) for each in attempts if each.reply is not None)
    return "\n\n".join(f"`{engine}`:\n{text.strip()}" for engine, text in said if text) or None


def _known(usage: Usage) -> Usage:
    """What budgets count of a usage: unknown is not counted, subscriptions cost nothing more."""
    usd = 0.0 if usage.basis == "subscription" else usage.usd
    return Usage(usage.input or 0, 0, usage.output or 0, 0, usd or 0.0)


def join(replies: Iterable[Reply]) -> Reply | None:
    """Join what several engines said of the same task: texts one after another, findings together."""
    found = list(replies)
    if len(found) <= 1:
        return found[0] if found else None
    usage = found[0].usage
    for other in found[1:]:
        usage = usage + other.usage
    texts = [reply.text for reply in found if reply.text]
    findings = tuple(finding for reply in found for finding in reply.findings)
    known = [reply.coverage for reply in found if reply.coverage is not None]
    # one that cannot say what it looked at looked at all of it
    coverage = join_coverage(known) if len(known) == len(found) else None
    return dataclasses.replace(
        found[0], text="\n\n".join(texts) or None, findings=findings, usage=usage, coverage=coverage
    )
