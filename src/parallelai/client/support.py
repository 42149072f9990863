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
    later = (
        "roles",
        "gates",
        "landing",
        "permissions",
        "accounts",
        "worktrees",
        "models",
        "shared",
        "protected",
    )
    asked = [key for key in later if key in settings.model_fields_set]
    if _has_folder_keys(settings.workspace):
        asked.append("workspace")
    asked += [said for name, entry in settings.engines.items() for said in _of_engine(name, entry)]
    return [Problem(f"{key if key.startswith('`') else f'`{key}`'} in the config: {LATER}") for key in asked]


def _of_plan(plan: Plan) -> Iterator[str]:
    given = plan.model_fields_set
    yield from (
        key
        for key in ("roles", "gates", "landing", "team", "permissions", "shared", "protected")
        if key in given
    )
    if _has_folder_keys(plan.workspace):
        yield "workspace"
    if {"edits", "role", "verify", "approve", "workspace"} & plan.defaults.model_fields_set:
        yield "defaults"


def _of_engine(name: str, entry: EngineEntry) -> Iterator[str]:
    if entry.sandbox == "required":
        yield f"`sandbox: required` of engine `{name}`"
    for key in ("network", "account", "max_turns"):
        if getattr(entry, key) is not None:
            yield f"`{key}` of engine `{name}`"


def _of_task(task: Task) -> Iterator[str]:
    given = task.model_fields_set
    if task.edits:
        yield "edits"
    if task.output == "change":
        yield "output"
    yield from (
        key for key in ("role", "verify", "approve", "todo", "after") if key in given and getattr(task, key)
    )
    if task.workspace is not None:
        yield "workspace"


def _has_folder_keys(workspace: Workspace) -> bool:
    return bool(workspace.model_fields_set - {"env", "pass_env"})
