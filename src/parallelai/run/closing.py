"""The end of a run: all findings collected, and its outcome written down."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from msgspec import Struct

from parallelai.engines.protocol import Capabilities
from parallelai.errors import EngineError, ParallelAIError
from parallelai.events import AttemptEnded, Event, FindingRecorded, RunEnded
from parallelai.plan.files import read_text
from parallelai.records import FREE, Finding
from parallelai.results import baseline
from parallelai.results.collect import Collector, Reported
from parallelai.results.document import counts, exit_code, is_pending, run_outcome
from parallelai.run.job import Job
from parallelai.run.masking import Masker
from parallelai.run.report import Report
from parallelai.store import RunWriter


class How(Struct, frozen=True):
    """How a run came to its end: by which signal, if any, and whether a budget was reached."""

    signal: int | None = None
    is_over_budget: bool = False


class Closing:
    """Collects what a run found, as it is found, and writes its end down. All else of it is on disk then."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._collector = Collector(functools.partial(read_source, job.root, {}))

    def learn(self, events: Sequence[Event]) -> None:
        """Take in what was found, as events tell that are on disk."""
        if self._job.editing:  # whose tree a reply is about, the end tells
            return
        for event in events:
            data = event.data
            if isinstance(data, AttemptEnded) and data.reply is not None and event.task is not None:
                is_quoted = is_model(self._job, data.engine)
                self._collector.take(Reported(event.task, data.engine, data.reply, is_quoted))

    async def close(self, job: Job, report: Report, masker: Masker, writer: RunWriter, how: How) -> None:
        """Write down the findings of a run and how it ended."""
        reports = report.reported(functools.partial(is_model, job))
        collected = self._collector.collect(_told_apart(reports, job), job.record)
        findings = baseline.apply(masker.quotes(collected.findings), job.baseline)
        writer.append(FindingRecorded(findings, collected.dropped))
        writer.append(_ending(job, report, findings, how))
        await writer.flush()


def _told_apart(reports: Iterator[Reported], job: Job) -> Iterator[Reported]:
    """Mark what is about files with the changes of other tasks, which the checkout does not have, or not yet."""
    known = {each.id for each in job.graph.instances} if job.editing else frozenset[str]()
    for one in reports:
        is_about_code = bool(one.reply.findings) and one.task in known and _sees_changes(job, one.engine)
        is_elsewhere = is_about_code and bool(job.changes_before(one.task))
        yield replace(one, is_elsewhere=True) if is_elsewhere else one


def _ending(job: Job, report: Report, findings: tuple[Finding, ...], how: How) -> RunEnded:
    tasks = report.tasks()
    counted = counts(tasks)
    is_over = how.is_over_budget
    return RunEnded(
        outcome=run_outcome(counted, is_cancelled=how.signal is not None, is_budget_reached=is_over),
        exit=exit_code(
            tasks,
            findings=findings,
            files=report.coverage(),
            is_unapplied=bool(report.refusals) or any(map(is_pending, tasks)),
            fail_on=job.fail_on,
            is_budget_reached=is_over,
            signal=how.signal,
            is_served=any(ended.by for ended in report.results.values()),
        ),
        seconds=round(report.seconds, 3),
        seconds_one_by_one=round(report.seconds_one_by_one, 3),
        counts=counted,
        usage=report.usage or FREE,
    )


def read_source(root: Path, folders: dict[str, str], path: str) -> str | None:
    """Give a file's text; None where it cannot be read. `folders` are those that are known to be in the project."""
    try:
        return read_text(root, path, folders=folders)
    except (OSError, ParallelAIError):  # it went away since; a finding keeps the quote that it came with
        return None


def is_model(job: Job, engine: str) -> bool:
    """Whether an engine is a model or an assistant, which may make up what it reports."""
    able = _capabilities(job, engine)
    entry = job.entries.get(engine)
    is_program = entry is not None and entry.use == "command"
    return able is not None and (able.takes_text or (able.works_in_folder and not is_program))


def _sees_changes(job: Job, engine: str) -> bool:
    """Whether an engine looks at files as earlier tasks left them; others read the checkout."""
    able = _capabilities(job, engine)
    return able is None or able.takes_text or able.works_in_folder


def _capabilities(job: Job, engine: str) -> Capabilities | None:
    try:
        return job.engines(engine).capabilities
    except EngineError:  # it was there when it answered, in an earlier process of the run
        return None
