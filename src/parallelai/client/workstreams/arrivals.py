"""Small things between landings and the documents of runs: candidates, rows, words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from parallelai.client.workstreams.landed_branches import THERE
from parallelai.events import Event, RunEnded
from parallelai.git.repository import Repository
from parallelai.records import FREE, ErrorRecord, Outcome, RunDocument, TaskResult
from parallelai.results.document import counts, is_pending, run_outcome
from parallelai.results.printable import visible
from parallelai.run.report import Report
from parallelai.run.scheduling.retry import outcome_of
from parallelai.work.guard.own_commits import is_of_commits
from parallelai.work.landing.explaining import request_open
from parallelai.work.landing.history import to_merge
from parallelai.work.landing.push import pushed_to
from parallelai.work.landing.records import Arrival
from parallelai.work.landing.session import ALREADY
from parallelai.work.streams.now import current
from parallelai.work.streams.record import KeptOut, Landed, Stream, described


def told(kept: KeptOut) -> str:
    """What the guard kept out, for the person who wrote it."""
    if is_of_commits(kept):
        return f"note: {kept.why}"  # nothing is gone from the files
    patch = f"; it is kept in `{kept.patch}`" if kept.patch else ""
    return f"kept out: {said_of(kept)}{patch}"


def said_of(kept: KeptOut) -> str:
    """What was kept out, and why; what is of no files in particular says itself what it is."""
    return f"{', '.join(map(visible, kept.paths))} ({kept.why})" if kept.paths else kept.why


def result_of(arrival: Arrival, about: dict[str, Any], engine: str | None = None) -> TaskResult:
    """A row of the run's document for what became of a candidate, and who had worked on it."""
    error = arrival.error or arrival.push_error
    if error is None and arrival.pull_request is not None:
        error = request_open(arrival.pull_request)
    status = Outcome.OK if arrival.landed is not None else Outcome.FAILED
    if arrival.landed is None and error is not None:
        status = outcome_of(error)
    if arrival.landed is not None and (ALREADY in arrival.notes or _moved_nothing(arrival.landed)):
        about = {**about, "stage": THERE}
    text = "\n".join(arrival.notes) or None
    return TaskResult(id=arrival.name, status=status, engine=engine, error=error, text=text, workstream=about)


def with_push(row: TaskResult, where: str | ErrorRecord) -> TaskResult:
    """A row of what had landed earlier, with where it was pushed to now, or why it could not be."""
    if isinstance(where, ErrorRecord):
        return replace(row, error=where)
    about = dict(row.workstream or {})
    about["landed"] = {**(about.get("landed") or {}), "pushed": where}
    text = "\n".join(filter(None, (row.text, pushed_to(where))))
    return replace(row, text=text, workstream=about)


def pushes_of(rows: Sequence[TaskResult]) -> dict[str, str | ErrorRecord]:
    """The targets that were pushed with what landed on them, with where to, or why that was not possible."""
    landed = ((row, (row.workstream or {}).get("landed")) for row in rows)
    pushed = {how["target"]: row.error or how["pushed"] for row, how in landed if how is not None}
    return {target: where for target, where in pushed.items() if where is not None}


def document_of(report: Report, rows: Sequence[TaskResult], out: Sequence[TaskResult] = ()) -> RunDocument:
    """The document of a landing by hand: of its run, with the rows of what was to land, and of what was left `out`."""
    all_ = (*rows, *out)
    counted = counts(all_)
    code = 4 * any(map(is_left, rows))  # and the outcome: not those of the run, which may have no end
    # Of the whole run, which a start by hand told of no task.
    return replace(report.document(), tasks=all_, exit=code, outcome=run_outcome(counted), counts=counted)


def ended_of(report: Report) -> RunEnded:
    """The end of a run that landed branches, as all of them stand."""
    tasks = report.tasks()
    counted = counts(tasks)
    code = 4 * any(map(is_left, tasks))
    return RunEnded(run_outcome(counted), code, round(report.seconds, 3), 0.0, counted, FREE)


def row_left_out(stream: Stream, why: str) -> TaskResult:
    """A row of the run's document for what `work land --all` leaves out."""
    return TaskResult(stream.name, Outcome.SKIPPED, workstream=described(stream), because=why)


def _moved_nothing(landed: Landed) -> bool:
    return landed.before == landed.commit


def is_left(row: TaskResult) -> bool:
    """Whether something is left to a person: it did not land, the checkout did not follow, or it was not pushed."""
    return row.status is not Outcome.OK or row.error is not None or is_pending(row)


def into(report: Report) -> Callable[[Sequence[Event]], None]:
    """What lets a report follow a journal."""

    def take(events: Sequence[Event]) -> None:
        for event in events:
            report.take(event)

    return take


async def now_in(repository: Repository, stream: Stream, onto: str | None = None) -> str:
    """What is in a worktree now, to be merged with `onto`; where its folder is gone, what was committed there last."""
    is_there = Path(stream.worktree).is_dir()
    commit = await current(repository, stream) if is_there else stream.head
    return commit if onto is None else await to_merge(repository, stream, commit, onto)
