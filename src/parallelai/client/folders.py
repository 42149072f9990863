"""Whether a job's attempts get folders of their own, and how these are made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from parallelai import processes
from parallelai.client.growing import Now
from parallelai.client.project import OpenProject
from parallelai.plan import model
from parallelai.plan.resolve import workspace_of
from parallelai.run.assembly import works_in_folder
from parallelai.run.job import Job
from parallelai.run.masking import Masker
from parallelai.run.resume import Prior

if TYPE_CHECKING:
    from parallelai.work.scratch.workspaces import RunWorkspaces


async def workspaces_for(
    project: OpenProject, now: Now, masker: Masker, prior: Prior
) -> RunWorkspaces | None:
    """Open the folders of a job's run; None where nobody needs one, or there is no git.

    `now` is asked again for each folder. Raises `UsageError` where the checkout cannot be taken.
    """
    job = now()
    if not job.has_workspaces or not _is_needed(job):
        return None
    from parallelai.work.ledger import Ledger
    from parallelai.work.scratch.workspaces import Settings, open_workspaces

    settings = Settings(
        run=job.run,
        root=job.root,
        state=project.state,
        folder=job.logs,
        permissions=job.plan.permissions,
        grace_seconds=job.plan.limits.grace,
        workspace=job.plan.workspace,
        of_task=lambda task: _wanted(now(), task),
        secrets_in=masker.secrets_in,
        memory_bytes=job.memory_bytes,
        ledger=Ledger(project.machine, project.state),
    )
    left = [one.folder for one in prior.interrupted.values() if one.folder is not None]
    # Changes are told from the recorded base, and a session goes on in the folder that it knows. Whoever only
    # reads is asked again because of what the user put right meanwhile, and has to see it.
    return await open_workspaces(settings, left, is_fresh=not job.editing and not left)


def _is_needed(job: Job) -> bool:
    if job.editing:
        return True
    looked_at: set[int] = set()
    for instance in job.graph.instances:
        who = job.assignment(instance)
        if id(who) not in looked_at:  # thousands of instances share one
            looked_at.add(id(who))
            if works_in_folder(job, instance):
                return True
    return False


def _wanted(job: Job, task: str) -> model.Workspace:
    """What a task and its plan say of its folder."""
    return workspace_of(job.plan, job.graph.get(task).task)


def confinement_notes(job: Job) -> list[str]:
    """Say aloud what is not confined: programs outside git, without a sandbox, or by their entry's word."""
    members = {member for who in job.assignments.values() for member in who.choice.members if not who.error}
    hands = sorted(members & job.hands)
    has_checks = any(instance.task.checks for instance in job.graph.instances)
    if not hands and not has_checks:
        return []
    if not job.has_workspaces:
        return ["commands run unconfined, in the project's folder: it is no git repository"]
    if not processes.confinements():
        return ["programs run unconfined: neither bubblewrap nor Landlock works here (`doctor` says more)"]
    loose = [name for name in hands if (entry := job.entries.get(name)) and entry.sandbox == "none"]
    return [f"`{name}` runs unconfined: its entry says `sandbox: none`" for name in loose]
