"""The run document: what a run came to, in one record, and how a process ends that carried it out."""

from __future__ import annotations

import signal as signals
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from parallelai.records import (
    Change,
    Coverage,
    FileNote,
    Finding,
    Outcome,
    RunDocument,
    Severity,
    TaskResult,
)

DONE = 0
FOUND = 1
NOT_ATTEMPTED = 3
INCOMPLETE = 4
OVER_BUDGET = 5
GONE = "applied, but no longer in the checkout"
"""Of a change that was applied, and that somebody took out again without being asked to (`git checkout .`)."""
WAITS = "your checkout waits: "
"""How the note begins that says what keeps a checkout from following its branch."""
_SIGNALLED = {int(signals.SIGINT): 130, int(signals.SIGTERM): 143}


def counts(tasks: Iterable[TaskResult]) -> dict[Outcome, int]:
    """Count tasks by how they ended; every outcome has an entry."""
    counted = dict.fromkeys(Outcome, 0)
    for task in tasks:
        counted[task.status] += 1
    return counted


def join_coverage(parts: Iterable[Coverage]) -> Coverage:
    """Account for every file once: covered if anybody covered it, else failed if it failed, else skipped.

    The first reason given for a file is kept; paths are sorted.
    """
    covered: set[str] = set()
    failed: dict[str, FileNote] = {}
    skipped: dict[str, FileNote] = {}
    for part in parts:
        covered.update(part.covered)
        for notes, known in ((part.failed, failed), (part.skipped, skipped)):
            for note in notes:
                known.setdefault(note.file, note)
    return Coverage(
        covered=tuple(sorted(covered)),
        skipped=tuple(skipped[file] for file in sorted(skipped.keys() - covered - failed.keys())),
        failed=tuple(failed[file] for file in sorted(failed.keys() - covered)),
    )


def run_outcome(
    counted: Mapping[Outcome, int], *, is_cancelled: bool = False, is_budget_reached: bool = False
) -> Outcome:
    """Say how a run ended: ok, failed, over_budget or cancelled.

    Args:
        counted: the tasks by outcome.
        is_cancelled: somebody ended the whole run, by a command or a signal.
        is_budget_reached: a budget kept the run from starting something.
    """
    if is_cancelled:
        return Outcome.CANCELLED
    if is_budget_reached or counted.get(Outcome.OVER_BUDGET):
        return Outcome.OVER_BUDGET
    if counted.get(Outcome.FAILED) or counted.get(Outcome.BLOCKED):
        return Outcome.FAILED
    return Outcome.CANCELLED if counted.get(Outcome.CANCELLED) else Outcome.OK


def standing(change: Change) -> str:
    """Say whether a change is in the user's checkout, and why not, or what of it is not."""
    if change.why == GONE:
        return GONE
    why = f" ({change.why})" if change.why is not None else ""
    return f"applied{why}" if change.applied else f"not applied{why}"


def is_pending(task: TaskResult) -> bool:
    """Whether a workstream landed on a branch that the user has still to take over."""
    return bool(((task.workstream or {}).get("landed") or {}).get("pending"))


def waiting(tasks: Iterable[TaskResult]) -> str | None:
    """What keeps the user's checkout from what has landed, and the command that takes it over; None for nothing."""
    for task in filter(is_pending, tasks):
        landed = (task.workstream or {})["landed"]
        notes = (*(landed.get("notes") or ()), *(task.text or "").splitlines())
        told = next((note for note in notes if note.startswith(WAITS)), None)
        return told or f"{WAITS}`git merge --ff-only {landed['pending']}` takes it over"
    return None


def exit_code(
    tasks: Iterable[TaskResult],
    *,
    findings: Iterable[Finding] = (),
    files: Coverage | None = None,
    fail_on: Severity | None = None,
    is_budget_reached: bool = False,
    signal: int | None = None,
    is_unapplied: bool = False,
    is_served: bool = False,
) -> int:
    """Give the exit code of a run by CONTRACTS §3; where several hold, 130, 143, 3, 5, 4, 1 in this order.

    Args:
        tasks: how the tasks ended.
        findings: only open ones at least as severe as `fail_on` count.
        files: one that nobody could look at makes the run incomplete, as a failed task does.
        fail_on: the mildest severity that makes the run end with 1; None for none.
        is_budget_reached: a budget kept the run from starting something.
        signal: the signal that interrupted the run, if one did.
        is_unapplied: a change that was to be applied could not be.
        is_served: some engine gave a reply, also where its task waits for a person now.
    """
    tasks = tuple(tasks)
    if signal is not None:
        return _SIGNALLED.get(signal, 128 + signal)
    statuses = {task.status for task in tasks}
    if not is_served and _is_nothing_attempted(tasks):
        return NOT_ATTEMPTED
    if is_budget_reached or Outcome.OVER_BUDGET in statuses:
        return OVER_BUDGET
    is_failed = bool(statuses & {Outcome.FAILED, Outcome.BLOCKED, Outcome.CANCELLED})
    if is_failed or is_unapplied or (files is not None and files.failed):
        return INCOMPLETE
    return FOUND if fail_on is not None and is_failing(findings, fail_on) else DONE


def is_failing(findings: Iterable[Finding], fail_on: Severity) -> bool:
    """Say whether any open finding is at least as severe as `fail_on`."""
    return any(finding.state == "open" and finding.severity.rank <= fail_on.rank for finding in findings)


def _is_nothing_attempted(tasks: Iterable[TaskResult]) -> bool:
    """No engine could serve any task; what was skipped, such as their dependents, does not count."""
    due = [task for task in tasks if task.status is not Outcome.SKIPPED]
    if any(task.status is Outcome.OK or _is_done(task) for task in due):
        return False
    return bool(due) and all(task.error is not None and task.error.kind == "unavailable" for task in due)


def _is_done(task: TaskResult) -> bool:
    """Whether a workstream's work was there before: only its landing was left, or its push, or a person's leave."""
    return (task.workstream or {}).get("stage") in ("done", "landed")


def to_data(document: RunDocument) -> dict[str, Any]:
    """Lay a document out as CONTRACTS §5 has it; the values may be records still.

    The schema comes first, and files that were covered are a number, for there are thousands of them.
    """
    data = {field.name: getattr(document, field.name) for field in fields(document)}
    files = document.files
    data["files"] = {"covered": len(files.covered), "skipped": files.skipped, "failed": files.failed}
    return {"schema": data.pop("schema"), **data}
