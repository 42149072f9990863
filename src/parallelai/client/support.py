"""What a plan may say that this version cannot carry out yet: refused by name, never ignored (CONTRACTS §1)."""

from __future__ import annotations

from collections.abc import Iterator

from parallelai.errors import Problem
from parallelai.plan.model import EngineEntry, Plan, Task, Workspace, positions
from parallelai.plan.settings import Settings

LATER = "this version loads, checks and shows it, but cannot carry it out yet"


NEXT = "take it out to carry the plan out now; `plan check`, `show` and `graph` take it as it is"


def unsupported(plan: Plan) -> list[Problem]:
    """List what stands in the way of carrying a plan out, each with its place."""
    where = positions(plan)

    def problem(said: str, *path: str | int) -> Problem:
        line, column = where.of(*path) or (None, None)
        return Problem(f"{said}: {LATER}", where.file or None, line, column, NEXT)

    problems = [problem(f"workstream `{work.id}`", "workstreams", work.id) for work in plan.workstreams]
    for name, entry in plan.engines.items():
        problems += [problem(said, "engines", name) for said in _of_engine(name, entry)]
    for key in _of_plan(plan):
        problems.append(problem(f"`{key}`", key))
    for number, phase in enumerate(plan.phases):
        if phase.gate or phase.pass_rate is not None:
            problems.append(problem(f"the gate of phase `{phase.name}`", "phases", number))
    for number, task in enumerate(plan.tasks):
        problems += [problem(f"`{key}` of task `{task.id}`", "tasks", number, key) for key in _of_task(task)]
    return problems


def unsupported_settings(settings: Settings) -> list[Problem]:
    """List what config asks for that this version cannot carry out."""
    later = ("roles", "gates", "landing", "accounts", "worktrees", "shared", "protected")
    asked = [f"`{key}`" for key in later if key in settings.model_fields_set]
    asked += [f"`{key}` of `workspace`" for key in _of_workspace(settings.workspace)]
    asked += [said for name, entry in settings.engines.items() for said in _of_engine(name, entry)]
    return [Problem(f"{said} in the config: {LATER}") for said in asked]


def _of_plan(plan: Plan) -> Iterator[str]:
    given = plan.model_fields_set
    yield from (key for key in ("roles", "gates", "landing", "team", "shared", "protected") if key in given)
    if any(_of_workspace(plan.workspace)):
        yield "workspace"
    if {"role", "approve"} & plan.defaults.model_fields_set:
        yield "defaults"


def _of_engine(name: str, entry: EngineEntry) -> Iterator[str]:
    if entry.account is not None:
        yield f"`account` of engine `{name}`"


def _of_task(task: Task) -> Iterator[str]:
    given = task.model_fields_set
    yield from (key for key in ("role", "approve", "after") if key in given and getattr(task, key))
    if task.workspace is not None and any(_of_workspace(task.workspace)):
        yield "workspace"


def _of_workspace(workspace: Workspace) -> Iterator[str]:
    """What the ledger and sparse worktrees of workstreams give; a limit of memory needs neither."""
    if workspace.needs.model_fields_set - {"memory"}:
        yield "needs"
    if "sparse" in workspace.model_fields_set:
        yield "sparse"
