"""What the user has to be told of a run before it starts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from parallelai import config

if TYPE_CHECKING:
    from parallelai.client.project import OpenProject
    from parallelai.run.job import Job


def of_ignored(project: OpenProject) -> list[str]:
    """Say what of the project's own config and roles does not hold, and why."""
    untrusted = project.untrusted
    notes = [f"not trusted, so ignored: {', '.join(untrusted)} (`parallelai trust`)"] if untrusted else []
    never = ", ".join(f"`{key}`" for key in project.ignored if key not in untrusted)
    return (
        [*notes, f"{never} of this project's config is ignored: only your own config can say it"]
        if never
        else notes
    )


def notes_of(project: OpenProject, job: Job) -> tuple[str, ...]:
    """Say what of a run is not as one might think."""
    from parallelai.client.folders import confinement_notes  # what only lists things needs no room of runs
    from parallelai.client.programs import absent_of_gates
    from parallelai.plan.model import positions

    notes = [*_of_root(project), *of_ignored(project)]
    members = {member for who in job.assignments.values() for member in who.choice.members}
    uses = {entry.use for name, entry in job.entries.items() if name in members}
    notes += confinement_notes(job)
    notes += _of_permissions(job, members)
    notes += map(str, absent_of_gates(job.plan, project.root))
    if "analyzers" in uses and any(instance.task.checklist for instance in job.graph.instances):
        notes.append("`analyzers` has rules of its own: the checklist is for models")
    return (*positions(job.plan).notes, *notes, *_of_templates(job))


def _of_root(project: OpenProject) -> list[str]:
    """Say that a project is all that one has: by a run that was once made there, mostly."""
    root = project.root
    if project.is_named or root == project.start or root not in (Path(root.anchor), Path.home().resolve()):
        return []
    marks = (root / mark for mark in config.MARKS)
    found = next((mark for mark in marks if mark.exists()), root)
    return [f"the project is `{root}`, for there is `{found}`; `--project .` makes it this folder"]


def _of_permissions(job: Job, members: set[str]) -> list[str]:
    """Say whom `permissions` do not bind: assistants that never ask."""
    permissions = job.plan.permissions
    if permissions == "auto":
        return []
    return [
        f"`{name}` never asks for leave: `permissions: {permissions}` does not keep it from running commands"
        for name in sorted(members)
        if _never_asks(job, name)
    ]


def _never_asks(job: Job, name: str) -> bool:
    from parallelai.errors import ParallelAIError

    try:
        able = job.engines(name).capabilities
    except ParallelAIError:  # it is not here, which its attempt will say
        return False
    return able.is_remote and able.works_in_folder and not able.asks


def _of_templates(job: Job) -> list[str]:
    from parallelai.plan.templates import replaces_shipped

    names = {instance.task.template for instance in job.graph.instances} & job.templates.keys()
    used = (job.templates[name] for name in sorted(name for name in names if name is not None))
    return [
        f"the template `{template.name}` is the {template.source}'s, in place of the one that ships"
        for template in used
        if replaces_shipped(template)
    ]
