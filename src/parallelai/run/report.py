"""The run document, folded from a run's events: the same for a run that just ended and for an old one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime

from parallelai.events import (
    AttemptEnded,
    Event,
    FindingRecorded,
    RunCreated,
    RunEnded,
    RunStarted,
    TaskEnded,
    TaskExpanded,
)
from parallelai.records import (
    Coverage,
    FileNote,
    Finding,
    Outcome,
    Reply,
    RunDocument,
    TaskResult,
    Usage,
)
from parallelai.results.collect import Reported

NOTHING_USED = Usage(0, 0, 0, 0, 0.0, "free")


class Report:
    """What is known of a run after some of its events. Feed it every event, in order, with `take`."""

    def __init__(self) -> None:
        self.created: RunCreated | None = None
        self.run = ""
        self.ended: RunEnded | None = None
        self.order: list[str] = []
        self.files: dict[str, tuple[str, ...]] = {}
        self.skipped: dict[str, str] = {}
        self.results: dict[str, TaskEnded] = {}
        self.replies: dict[str, dict[int, AttemptEnded]] = {}
        self.usage: Usage | None = None
        self.seconds_one_by_one = 0.0
        self.findings: tuple[Finding, ...] | None = None
        self.dropped: dict[str, int] = {"quote_not_found": 0}
        self._seconds_before = 0.0
        self._span: tuple[str, str] | None = None

    def take(self, event: Event) -> None:
        """Learn one event."""
        self.run = event.run
        if self._span is not None:
            self._span = (self._span[0], event.at)
        data = event.data
        match data:
            case AttemptEnded():
                self._take_attempt(event, data)
            case TaskEnded() if event.task is not None:
                self.results[event.task] = data
            case RunCreated():
                self.created = data
            case RunStarted():
                self._seconds_before = self.seconds
                self._span = (event.at, event.at)
                self.ended, self.findings = None, None
            case TaskExpanded():
                self._take_expansion(data)
            case FindingRecorded():
                self.findings = data.findings
                self.dropped = {**self.dropped, **data.dropped}
            case RunEnded():
                self.ended = data

    def _take_attempt(self, event: Event, data: AttemptEnded) -> None:
        if event.task is None or event.attempt is None:
            return
        self.replies.setdefault(event.task, {})[event.attempt] = data
        self.seconds_one_by_one += data.seconds
        if data.usage is not None and not data.is_cached:
            self.usage = data.usage if self.usage is None else self.usage + data.usage

    def _take_expansion(self, data: TaskExpanded) -> None:
        if not data.is_addition:  # a process starts or goes on: what did not end well is to be done again
            self.order.clear()
            self.files.clear()
            self.skipped.clear()
            self.results = {
                task: ended for task, ended in self.results.items() if ended.result.status is Outcome.OK
            }
        self.order.extend(data.items)
        self.files.update(data.files)
        self.skipped.update((note.file, note.why) for note in data.skipped)

    @property
    def seconds(self) -> float:
        """How long processes worked on the run, without the time between them."""
        if self._span is None:
            return self._seconds_before
        began, latest = (datetime.fromisoformat(at) for at in self._span)
        return self._seconds_before + max((latest - began).total_seconds(), 0.0)

    def reply(self, task: str) -> Reply | None:
        """Give the reply of a finished task: of several attempts (a vote) the joined one."""
        ended = self.results.get(task)
        attempts = self.replies.get(task, {})
        replies = [attempts[n].reply for n in (ended.by if ended else ()) if n in attempts]
        return join(reply for reply in replies if reply is not None)

    def reported(self) -> Iterator[Reported]:
        """Give every reply that counts, with who gave it, in plan order."""
        for task in self.order:
            ended = self.results.get(task)
            for number in ended.by if ended is not None else ():
                attempt = self.replies.get(task, {}).get(number)
                if attempt is not None and attempt.reply is not None:
                    yield Reported(task, attempt.engine, attempt.reply)

    def counts(self) -> dict[Outcome, int]:
        """Count the tasks by outcome; all six are there."""
        counts = dict.fromkeys(Outcome, 0)
        for task in self.order:
            if task in self.results:
                counts[self.results[task].result.status] += 1
        return counts

    def coverage(self) -> Coverage:
        """Say of each file that somebody asked about what became of it: failed beats covered beats skipped."""
        skipped, failed = dict(self.skipped), dict[str, str]()
        covered: set[str] = set()
        for task, files in self.files.items():
            ended = self.results.get(task)
            reply = self.reply(task)
            if ended is None or ended.result.status is not Outcome.OK or reply is None:
                error = ended.result.error if ended is not None else None
                why = error.said if error is not None else (ended.result.status if ended else "not done")
                failed.update(dict.fromkeys(files, str(why)))
            elif reply.coverage is None:
                covered.update(files)
            else:
                covered.update(reply.coverage.covered)
                skipped.update((note.file, note.why) for note in reply.coverage.skipped)
                failed.update((note.file, note.why) for note in reply.coverage.failed)
        covered.difference_update(failed)
        return Coverage(
            tuple(sorted(covered)),
            _notes(skipped, lambda file: file not in covered and file not in failed),
            _notes(failed, lambda _: True),
        )

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
            counts=self.counts(),
            usage=self.usage or NOTHING_USED,
            tasks=tuple(self._row(task) for task in self.order if task in self.results),
            findings=self.findings or (),
            dropped=self.dropped,
            files=self.coverage(),
        )

    def _row(self, task: str) -> TaskResult:
        reply = self.reply(task)
        result = self.results[task].result
        return dataclasses.replace(result, text=reply.text if reply is not None else None)


def _notes(notes: dict[str, str], keep: Callable[[str], bool]) -> tuple[FileNote, ...]:
    return tuple(FileNote(file, why) for file, why in sorted(notes.items()) if keep(file))


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
    return dataclasses.replace(
        found[0], text="\n\n".join(texts) or None, findings=findings, usage=usage, coverage=_joint(found)
    )


def _joint(replies: list[Reply]) -> Coverage | None:
    """What at least one of them covered is covered."""
    coverages = [reply.coverage for reply in replies]
    if any(coverage is None for coverage in coverages):
        return None
    known = [coverage for coverage in coverages if coverage is not None]
    covered = {file for coverage in known for file in coverage.covered}
    skipped = {note.file: note for coverage in known for note in coverage.skipped if note.file not in covered}
    failed = {note.file: note for coverage in known for note in coverage.failed if note.file not in covered}
    return Coverage(tuple(sorted(covered)), tuple(skipped.values()), tuple(failed.values()))
