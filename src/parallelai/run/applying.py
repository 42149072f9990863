"""The changes that are put into the user's checkout at the end of a run."""

from __future__ import annotations

from parallelai.events import ChangeRefused
from parallelai.plan.model import PhaseGate
from parallelai.records import Outcome
from parallelai.run.job import Job
from parallelai.run.journaling import Append
from parallelai.run.report import Report
from parallelai.run.workspaces import Workspaces, applied_event


async def apply_changes(job: Job, report: Report, workspaces: Workspaces, append: Append) -> None:
    """Apply the changes of all tasks that ended well, in plan order, but those that a gate keeps back."""
    kept_back = withheld(job, report)
    wanted = [task for task in report.changed() if task not in kept_back]
    for applied in await workspaces.apply(wanted, report.written):
        append(applied_event(applied), task=applied.task)
    for task in report.unapplied():
        if task in kept_back:
            append(ChangeRefused((), kept_back[task]), task=task)


def withheld(job: Job, report: Report) -> dict[str, str]:
    """Say which instances' changes are not to be applied by themselves, and why: a person may still take them.

    They are those of a phase whose gate has not passed, and all that have to see these. Pure.
    """
    red: dict[int, str] = {}
    for instance in job.graph.instances:
        ended = report.results.get(instance.id)
        if isinstance(instance.task, PhaseGate) and (ended is None or ended.result.status is not Outcome.OK):
            name = job.graph.phases[instance.phase].name
            red[instance.phase] = f"the gate of phase `{name}` has not passed"
    red_before = {each.id: red[each.phase] for each in job.graph.instances if red and each.phase in red}
    found = dict(red_before)
    for name in job.editing.difference(found) if red else ():
        why = next((red_before[each] for each in job.changes_before(name) if each in red_before), None)
        if why is not None:
            found[name] = why
    return found
