"""The workstreams of a plan that are not started yet, and what each waits for."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator, Mapping

from parallelai.plan.model import Plan, Task, Workstream
from parallelai.work.status.folding import Passed, StreamStatus
from parallelai.work.status.progress import Watched


def unstarted(
    plan: Plan,
    watched: Watched,
    *,
    started: Collection[str],
    done: Collection[str],
    target: str | None,
    limits: Mapping[str, int] | None,
    path: str | None = None,
) -> Iterator[StreamStatus]:
    """Say of each workstream that has no worktree yet why it has none.

    Args:
        watched: what the run's events say; one that ended without a start, such as a skipped one, has that stage.
        started: the names of those that have a worktree, or had one.
        done: the ids of tasks that are done, and of workstreams that have landed.
        target: the branch that the run's workstreams land on, where that is known.
        limits: how many attempts at once roles may have, of a run that is carried out just now; None of another.
        path: the plan's, where it is a file.
    """
    begins = f"`parallelai work run {shlex.quote(path)}` begins it" if path and limits is None else None
    for work in plan.workstreams:
        if work.id in started:
            continue
        progress = watched.of(work.id)
        why = _waits_for(plan, work, done) or _role_is_full(plan, work, watched, limits or {})
        helps = None if why else begins
        if progress.outcome not in (None, "ok"):
            why = progress.error.said if progress.error is not None else why or _why_ended(progress.outcome)
        is_made = limits is not None and progress.stage == "preparing"
        yield StreamStatus(
            name=work.id,
            branch=work.branch or f"parallelai/{work.id}",
            worktree=None,
            target=target or plan.landing.target,
            stage=progress.outcome or (progress.stage if limits is not None else "waiting"),
            activity=progress.activity if limits is not None else "waiting",
            todo=Passed(0, len(work.todo)),
            files=None,
            checks=Passed(None, len(work.checks)),
            tests=Passed(None, None),
            why=why or ("its worktree is being made" if is_made else "it is not started yet"),
            next=progress.error.next if progress.error is not None else helps,
            depends_on=work.depends_on,
        )


def _why_ended(outcome: str) -> str:
    """Why one ended without a start that nothing keeps from it any more."""
    return (
        "it was skipped when its run was carried out last" if outcome == "skipped" else f"it ended {outcome}"
    )


def _waits_for(plan: Plan, work: Workstream, done: Collection[str]) -> str | None:
    missing = [name for name in work.depends_on if name not in done]
    if missing:
        return f"not started: waits for {', '.join(f'`{name}`' for name in missing)}"
    for phase in plan.phases:
        if work.id in phase.tasks:
            break
        if phase.barrier and any(name not in done for name in phase.tasks):
            return f"not started: waits for the phase `{phase.name}`"
    return None


def _role_is_full(plan: Plan, work: Workstream, watched: Watched, limits: Mapping[str, int]) -> str | None:
    """Say so where as many of its role are at work as may be."""
    role = _role(plan, work)
    if role is None or role not in limits:
        return None
    at_work = sum(watched.of(each.id).stream is not None for each in plan.works if _role(plan, each) == role)
    if at_work < limits[role]:
        return None
    return f"not started: waits for the role `{role}`: {at_work} of {limits[role]} at work"


def _role(plan: Plan, work: Task) -> str | None:
    return work.role if work.role is not None else plan.defaults.role
