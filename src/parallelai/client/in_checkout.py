"""Whether what a run applied is in the user's checkout still: looked up where it is shown, from its files."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from parallelai.records import Change, RunDocument, TaskResult, changed
from parallelai.results.document import GONE
from parallelai.run.report import Report
from parallelai.work.checkout.applying import gone

MOST_NAMED = 3


def document_of(report: Report, root: Path) -> RunDocument:
    """Give a run's document, with what has become of its changes in the checkout at `root`."""
    document = report.document()
    rows = tuple(_row(report, row, root) for row in document.tasks)
    return dataclasses.replace(document, tasks=rows) if rows != document.tasks else document


def discarded(report: Report, root: Path) -> tuple[str, ...]:
    """Name the tasks whose changes were applied, and of which nothing is in the checkout at `root` any more."""
    return tuple(
        task
        for task in report.changed()
        if task in report.written and gone(root, report.written, task) is None
    )


def change_of(report: Report, task: str, change: Change, root: Path) -> Change:
    """Say of a task's change what is not in the checkout any more; all else is as it was."""
    if not change.applied or task not in report.written:
        return change
    back = gone(root, report.written, task)
    if back is None:
        return dataclasses.replace(change, applied=False, why=GONE)
    if not back:
        return change
    more = f" and {len(back) - MOST_NAMED} more" if len(back) > MOST_NAMED else ""
    return dataclasses.replace(change, why=f"no longer in the checkout: {', '.join(back[:MOST_NAMED])}{more}")


def _row(report: Report, row: TaskResult, root: Path) -> TaskResult:
    if row.change is None:
        return row
    change = change_of(report, row.id, row.change, root)
    return row if change is row.change else changed(row, change=change)
