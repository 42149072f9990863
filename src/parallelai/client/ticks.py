"""What became of the plain tasks of a Markdown task list, whose boxes no landing ticks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from parallelai.client.in_checkout import discarded
from parallelai.client.naming import plan_name
from parallelai.client.project import OpenProject
from parallelai.client.runs import Runs
from parallelai.errors import PlanError
from parallelai.events import RunCreated
from parallelai.plan import source
from parallelai.plan.markdown import imported
from parallelai.records import Outcome
from parallelai.run.report import Report


class Ticks(Struct, frozen=True):
    """The tasks that are done, with their changes in the user's checkout; and the runs of those whose are not.

    `rows` are the tasks that are rows of a table, which has no boxes, and that it does not call done.
    """

    done: frozenset[str]
    unapplied: Mapping[str, str]
    rows: frozenset[str] = frozenset()


def ticks(project: OpenProject, runs: Runs, path: Path) -> Ticks:
    """Say what the latest runs of a task list, and of the plans that were converted from it, did of its plain tasks."""
    done: set[str] = set()
    unapplied: dict[str, str] = {}
    text = _text(project, path)
    wanted = _descriptions(text, str(path))
    for run, ids in _runs_of(project, runs, plan_name(path, project.root), wanted):
        report = runs.report(run)
        waiting = {_task(each) for each in (*report.unapplied(), *discarded(report, project.root))}
        for id in ids & _good(report):
            if id in waiting:
                unapplied.setdefault(id, run)
            else:
                done.add(id)
    left = {id: run for id, run in unapplied.items() if id not in done}
    return Ticks(frozenset(done), left, imported.rows(text))


def _text(project: OpenProject, path: Path) -> str:
    try:
        return source.decode(source.read(path, root=project.root, file=str(path)), str(path))
    except PlanError:  # who ticks says why it cannot be read
        return ""


def _descriptions(text: str, file: str) -> Mapping[str, str]:
    """What is to be done in each plain task of the list that is not ticked."""
    try:
        return _tasks(imported.parse(text, file).data)
    except PlanError:  # what is no plan has boxes too, of workstreams
        return {}


def _tasks(document: Mapping[str, Any]) -> Mapping[str, str]:
    return {task["id"]: task["description"] for task in document.get("tasks", ()) if "description" in task}


def _runs_of(
    project: OpenProject, runs: Runs, name: str, wanted: Mapping[str, str]
) -> Iterator[tuple[str, frozenset[str]]]:
    """Give the latest run of each plan, and which of the list's tasks are its: by id, elsewhere also by words."""
    seen: set[str] = set()
    for state in runs.list() if wanted else ():
        plan = state.row.plan
        if state.row.kind != "execute" or plan is None or plan in seen:
            continue
        seen.add(plan)
        events = project.store.journal.events(state.row.id, types={RunCreated.type})
        for created in (event.data for event in events if isinstance(event.data, RunCreated)):
            has = _tasks(created.document)
            ids = frozenset(id for id in wanted if id in has and (plan == name or has[id] == wanted[id]))
            if ids:
                yield state.row.id, ids


def _good(report: Report) -> frozenset[str]:
    """The tasks that ended well with all their instances; a workstream's box is its landing's."""
    ends: dict[str, list[bool]] = {}
    for each in report.order:
        row = report.results.get(each)
        is_good = row is not None and row.result.status is Outcome.OK and row.result.workstream is None
        ends.setdefault(_task(each), []).append(is_good)
    return frozenset(id for id, all_good in ends.items() if all(all_good))


def _task(instance: str) -> str:
    """The task of an instance: an id has no `@`."""
    return instance.partition("@")[0]
