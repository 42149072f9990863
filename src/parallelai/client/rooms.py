"""The room of a job's workstreams, for jobs that have some; what it needs is loaded for these alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from parallelai.client.growing import Growing, Now
from parallelai.client.project import OpenProject
from parallelai.errors import UsageError
from parallelai.events import EventData, LeaveLapsed, TaskStep
from parallelai.plan.graph import TaskGraph
from parallelai.plan.model import PhaseGate, Workstream
from parallelai.run.approving import Approvals
from parallelai.run.assembly import works_in_folder
from parallelai.run.commanded import Steer
from parallelai.run.job import Job
from parallelai.run.masking import Masker
from parallelai.run.resume import Prior
from parallelai.run.steps import CheckStep, Step
from parallelai.run.workspaces import Workspaces
from parallelai.store import RunWriter
from parallelai.work.stream_steps import ApproveStep

if TYPE_CHECKING:
    from parallelai.work.opening import Ports
    from parallelai.work.room import Room
    from parallelai.work.scratch.workspaces import RunWorkspaces


def needs_room(graph: TaskGraph) -> bool:
    """Whether a plan has workstreams, or gates of phases."""
    return graph.has(Workstream, PhaseGate)


def refuse_without_git(project: OpenProject, graph: TaskGraph) -> None:
    """Raise `UsageError` where a plan needs worktrees, and there is no checkout to cut them from."""
    if needs_room(graph) and not project.has_git:
        said = "workstreams and gates of phases need a checkout of a git repository, and the project is none"
        raise UsageError(said, next=project.how_to_have_git)


def refuse_renamed(project: OpenProject, plan: str | None, graph: TaskGraph, *, is_anew: bool) -> None:
    """Raise `UsageError` where a plan's workstreams were begun by the name that it had before.

    `is_anew`: what is finished is done again in any case, or was not there when the run began.
    """
    if plan is None or not graph.has(Workstream):
        return
    works = {each.id: each.task.description for each in graph.instances if isinstance(each.task, Workstream)}
    from parallelai.work.streams import registry, renamed

    streams = registry.Streams(project.state)
    renamed.refuse_renamed(streams, project.root, plan, works, is_anew=is_anew)


def places_of(room: Room | None, inner: RunWorkspaces | None) -> Workspaces | None:
    """The folders of a run: worktrees for its workstreams, where it has some."""
    if room is None or inner is None:
        return inner
    from parallelai.work.stream_places import StreamWorkspaces

    return StreamWorkspaces(room, inner)


def approvals_of(growing: Growing, prior: Prior, writer: RunWriter) -> Approvals:
    """What persons are asked leave for in a run, in step with its journal."""
    job, is_heard = growing.now(), False

    def tell(task: str, data: TaskStep | LeaveLapsed) -> None:
        writer.append(data, task=task)

    approvals = Approvals(job.run, prior.leave, is_attended=job.is_attended, flush=writer.flush, tell=tell)

    def hear(job: Job) -> None:
        nonlocal is_heard
        if job.has_leave and not is_heard:  # most jobs need none, and hearing every event takes time
            is_heard = True
            writer.subscribe(approvals.take)

    growing.whenever(hear)
    return approvals


def steer_of(room: Room | None, approvals: Approvals) -> Steer:
    """Does what others ask of a job's workstreams, and gives or refuses the leave that plain tasks wait for."""

    def steer(kind: str, args: Mapping[str, Any], by: str) -> str:
        name = str(args.get("name") or args.get("task") or "")
        if room is not None and (room.has(name) or kind not in ("approve", "reject")):
            return room.steer(kind, args, by)
        reason, result = (str(args.get(each) or "") for each in ("reason", "result"))
        return approvals.decide(kind, name, reason, by, result)

    return steer


def steps_of(room: Room | None, now: Now, inner: RunWorkspaces | None, approvals: Approvals) -> list[Step]:
    """The steps of a job's tasks after the work of their assistants; `now` gives it with what was added.

    `inner` makes the folders of its plain tasks.
    """
    steps: list[Step] = [
        CheckStep(lambda instance: works_in_folder(now(), instance)),
        ApproveStep(room, approvals),
    ]
    if room is None:
        return steps
    from parallelai.client.workstreams import stream_room

    return [*steps, *stream_room.steps_of(room, now, inner)]


async def taken_up(
    project: OpenProject, job: Job, prior: Prior, *, is_afresh: bool, only: Sequence[str]
) -> tuple[Job, Sequence[EventData]]:
    """Look at what became of the plan's workstreams in earlier runs; gives the job with what it does of them.

    What is said of it is given too; `prior` forgets those that are begun anew.

    Args:
        is_afresh: a new run was asked for, which does again what a person took out.
        only: the ids and tags that were asked for by name.
    """
    if not needs_room(job.graph) or not project.has_git:
        return job, ()
    from parallelai.client.workstreams import stream_room

    return await stream_room.taken_up(project, job, prior, is_afresh=is_afresh, only=only)


@asynccontextmanager
async def room_for(
    project: OpenProject,
    job: Job,
    writer: RunWriter,
    masker: Masker,
    ports: Callable[[], Ports],
    note: Callable[[str], None],
) -> AsyncIterator[Room | None]:
    """Open the room of a job; None where it needs none. `note` tells the user something that matters at the start.

    Raises `UsageError` where there is no repository to carry workstreams out in.
    """
    if not needs_room(job.graph):
        yield None
        return
    refuse_without_git(project, job.graph)
    from parallelai.client.workstreams import stream_room

    async with stream_room.opened(project, job, writer, masker, ports(), note) as room:
        yield room
