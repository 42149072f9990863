"""The room of a job's workstreams, opened: worktrees, landings, gates. Loaded only for jobs that have some.

See `client.rooms`, which says whether a job needs one.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from parallelai.client.growing import Now
from parallelai.client.jobs import COMMANDS
from parallelai.client.project import OpenProject
from parallelai.events import EventData
from parallelai.git.repository import Repository, open_repository
from parallelai.plan.model import Workstream
from parallelai.run.job import Job
from parallelai.run.masking import Masker
from parallelai.run.resume import Prior
from parallelai.run.steps import Step
from parallelai.store import RunWriter
from parallelai.work.changes_gate import ChangesGate
from parallelai.work.landing.following import follow
from parallelai.work.landing.reverts import note_reverts
from parallelai.work.ledger import Ledger
from parallelai.work.opening import Ports, open_room
from parallelai.work.room import Room
from parallelai.work.scratch.workspaces import RunWorkspaces
from parallelai.work.setting import Setting
from parallelai.work.stream_places import StreamWorkspaces
from parallelai.work.stream_steps import LandStep, PhaseGateStep
from parallelai.work.streams.base import choose_base
from parallelai.work.streams.by_hand import refuse_begun
from parallelai.work.streams.landed import gone
from parallelai.work.streams.names import worktree_path
from parallelai.work.streams.registry import Held, Streams, folded, is_finished
from parallelai.work.streams.revisiting import course_of, revisit, why_left
from parallelai.work.streams.rules import rules_in


def steps_of(room: Room, now: Now, inner: RunWorkspaces | None) -> list[Step]:
    """The steps that a job's workstreams and phases add; `inner` makes the folders of its plain tasks."""
    changes = None
    if inner is not None:
        changes = ChangesGate(room.setting, StreamWorkspaces(room, inner), room.tell)
    return [LandStep(room), PhaseGateStep(room, changes, lambda instance: _changed_before(now(), instance))]


def _changed_before(job: Job, instance: str) -> tuple[str, ...]:
    """The tasks whose changes the gate of a phase has to see; none where all of them land on the target."""
    found = job.changes_before(instance)
    has_plain = any(not isinstance(job.graph.get(each).task, Workstream) for each in found)
    return found if has_plain else ()


async def taken_up(
    project: OpenProject, job: Job, prior: Prior, *, is_afresh: bool, only: Sequence[str]
) -> tuple[Job, Sequence[EventData]]:
    """Look at what became of the plan's workstreams in earlier runs; gives the job with what it does of them.

    What is said of it is given too; `prior` forgets those that are begun anew. Raises `UsageError` where an assistant
    would begin over what a person is at.

    Args:
        is_afresh: a new run was asked for, which does again what a person took out.
        only: the ids and tags that were asked for by name.
    """
    streams = Streams(project.state)
    if job.name is None or not streams.all():
        return job, ()
    named = {each.id for each in job.graph.instances if {each.id, each.task.id, *each.task.tags} & set(only)}
    repository = await open_repository(project.root)
    await refuse_over(project, job)
    await follow(repository, streams, job.name)
    await note_reverts(repository, streams)
    landing = job.plan.landing
    is_pushed = landing.push and landing.via == "ref"

    def is_asked(name: str) -> bool:
        return is_afresh or name in named

    taken = await _taken_by_others(project, repository, job, is_asked)
    found = await revisit(repository, streams, job.name, is_asked, is_pushed=is_pushed)
    for name in (*found.anew, *taken):
        prior.forget(name)
    left = {**found.left, **{name: why for name, why in taken.items() if why is not None}}
    unserved = {name for name in found.performed if (who := job.assignments.get(name)) and who.error}
    given = {**job.assignments, **dict.fromkeys(unserved, COMMANDS)}  # to land takes nobody
    performed = frozenset(found.performed)
    return dataclasses.replace(job, assignments=given, performed=performed, left=left), found.news


async def _taken_by_others(
    project: OpenProject, repository: Repository, job: Job, is_asked: Callable[[str], bool]
) -> dict[str, str | None]:
    """Say of workstreams whose names another plan has by now why they are left alone; None of what is begun anew.

    That is refused as long as the other one is not finished. The leave and the landing of what such a name has are not
    for this plan to give: it is other work. Where the other one is finished, the name is this plan's again.
    """
    streams, journal = Streams(project.state), project.store.journal
    mine = {folded(each.id): each.id for each in job.graph.instances if isinstance(each.task, Workstream)}
    others = {
        mine[folded(each.name)]: each
        for each in streams.all()
        if folded(each.name) in mine and each.plan != job.name
    }
    before = {
        each.name: each for each in reversed(streams.history() if others else []) if each.plan == job.name
    }
    for name, other in list(others.items()):
        if name in before and is_finished(other) and not journal.is_owned(other.run):
            with contextlib.suppress(Held):  # its branch or folder is another's
                streams.claim(before[name])
                del others[name]
    lost = await gone(repository, [before[name] for name in others if name in before])
    found: dict[str, str | None] = dict.fromkeys(others)
    for name, was in ((name, before[name]) for name in others if name in before):
        course = course_of(was, is_lost=name in lost, has_branch=False, is_asked=is_asked(name))
        if course == "leave":
            found[name] = why_left(was)
        elif was.landed is not None and course == "as-it-is":
            other = others[name]
            found[name] = (
                f"it landed as {was.landed.commit[:10]}, and `{other.plan}` has a workstream `{other.name}` by now"
            )
    return found


async def refuse_over(project: OpenProject, job: Job) -> None:
    """Refuse a job whose assistants would begin over what a person is at. Raises `UsageError`."""
    begun = {each.id for each in job.graph.instances if job.assignment(each).error is None}
    mine = [each for each in Streams(project.state).open(job.name) if each.is_by_hand and each.name in begun]
    if mine:
        await refuse_begun(await open_repository(project.root), mine)


@asynccontextmanager
async def opened(
    project: OpenProject,
    job: Job,
    writer: RunWriter,
    masker: Masker,
    ports: Ports,
    note: Callable[[str], None],
) -> AsyncIterator[Room]:
    """Open the room of a job. `note` tells the user something that matters at the start."""
    repository = await open_repository(project.root)
    setting, about_base = await setting_of(project, job, masker, repository)
    if about_base:
        note(about_base)
    ledger = Ledger(project.machine, project.state)

    def tell(task: str | None, data: object) -> None:
        writer.append(data, task=task)  # type: ignore[arg-type]  # an event's data

    async with open_room(setting, repository, ledger, tell, ports) as room:
        yield room


async def setting_of(
    project: OpenProject, job: Job, masker: Masker, repository: Repository
) -> tuple[Setting, str | None]:
    """Decide what a job's workstreams need, and say what a person should know of the base."""
    settings, plan = project.settings, job.plan
    base = await choose_base(repository, plan.landing.target, fetch=settings.fetch != "never")
    works = {each.id: each.task for each in job.graph.instances if isinstance(each.task, Workstream)}
    plan = plan.model_copy(update={"landing": plan.landing.model_copy(update={"target": base.target})})
    folder = Path(settings.worktrees.path) if settings.worktrees.path else None
    setting = Setting(
        run=job.run,
        plan_name=job.name or job.run,
        plan=plan,
        works=works,
        rules={name: rules_in(plan, name) for name in works},
        root=project.root,
        state=project.state,
        folder=job.logs,
        worktrees=worktree_path(repository, "x", folder).parent,
        target=base.target,
        is_attended=job.is_attended,
        engine_of=lambda name: _engine(job, name),
        memory_bytes=job.memory_bytes,
        secrets_in=masker.secrets_in,
        base=base,
    )
    return setting, base.note


def _engine(job: Job, name: str) -> str | None:
    who = job.assignments.get(name)
    return ", ".join(who.choice.members) if who is not None and who.error is None else None
