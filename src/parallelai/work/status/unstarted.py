"""The workstreams of a plan that are not started yet, and what each waits for."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from parallelai.plan.model import Plan, Workstream
from parallelai.work.status.folding import Passed, StreamStatus
from parallelai.work.status.progress import Watched


def unstarted(
    plan: Plan,
    watched: Watched,
    *,
    started: Collection[str],
    done: Collection[str],
    target: str | None,
) -> Iterator[StreamStatus]:
    """Say of each workstream that has no worktree yet why it has none.

    Args:
        watched: what the run's events say; one that ended without a start, such as a skipped one, has that stage.
        started: the names of those that have a worktree, or had one.
        done: the ids of tasks that are done, and of workstreams that have landed.
        target: the branch that the run's workstreams land on, where that is known.
    """
    for work in plan.workstreams:
        if work.id in started:
            continue
        progress = watched.of(work.id)
        why = _waits_for(plan, work, done)
        if progress.outcome not in (None, "ok"):
            why = progress.error.said if progress.error is not None else f"it ended {progress.outcome}"
        yield StreamStatus(
            name=work.id,
            branch=work.branch or f"parallelai/{work.id}",
            worktree=None,
            target=target or plan.landing.target,
            stage=progress.outcome or progress.stage,
            activity=progress.activity,
            todo=Passed(0, len(work.todo)),
            files=None,
            checks=Passed(None, len(work.checks)),
            tests=Passed(None, None),
            why=why,
            depends_on=work.depends_on,
        )


def _waits_for(plan: Plan, work: Workstream, done: Collection[str]) -> str:
    missing = [name for name in work.depends_on if name not in done]
    if missing:
        return f"not started: waits for {', '.join(f'`{name}`' for name in missing)}"
    for phase in plan.phases:
        if work.id in phase.tasks:
            break
        if phase.barrier and any(name not in done for name in phase.tasks):
            return f"not started: waits for the phase `{phase.name}`"
    return "it is not started yet"
