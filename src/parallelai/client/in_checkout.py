"""Whether what a run applied is in the user's checkout still: looked up where it is shown, from its files."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from parallelai.records import Change, RunDocument, TaskResult, changed
from parallelai.results.document import GONE
from parallelai.run.report import Report
from parallelai.work.checkout.applying import standing

MOST_NAMED = 3


def document_of(report: Report, root: Path) -> RunDocument:
    """Give a run's document, with what has become of its changes in the checkout at `root`."""
    return as_it_is(report.document(), report, root)


def as_it_is(document: RunDocument, report: Report, root: Path) -> RunDocument:
    """Say in a run's document, which was made of `report`, what has become of its changes in the checkout."""
    rows = tuple(_row(report, row, root) for row in document.tasks)
    return dataclasses.replace(document, tasks=rows) if rows != document.tasks else document


def discarded(report: Report, root: Path) -> tuple[str, ...]:
    """Name the tasks whose changes were applied, and of which nothing is in the checkout at `root` any more."""
    return tuple(
        task
        for task in report.changed()
        if task in report.written and standing(root, report.written, task).is_gone
    )


def change_of(report: Report, task: str, change: Change, root: Path) -> Change:
    """Say of an applied change what is not in the checkout any more, and what was edited since."""
    if not change.applied or task not in report.written:
        return change
    found = standing(root, report.written, task)
    if found.is_gone:
        return dataclasses.replace(change, applied=False, why=GONE)
    parts = (("no longer in the checkout", found.back), ("edited since", found.edited))
    why = "; ".join(f"{said}: {_named(paths)}" for said, paths in parts if paths)
    return dataclasses.replace(change, why=why or None)


def _named(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - MOST_NAMED} more" if len(paths) > MOST_NAMED else ""
    return f"{', '.join(paths[:MOST_NAMED])}{more}"


def _row(report: Report, row: TaskResult, root: Path) -> TaskResult:
    if row.change is None:
        return row
    change = change_of(report, row.id, row.change, root)
    return row if change is row.change else changed(row, change=change)
