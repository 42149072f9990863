"""What a plan may say that this version cannot carry out yet: refused by name, never ignored (CONTRACTS §1)."""

from __future__ import annotations

from collections.abc import Iterator

from parallelai.errors import Problem
from parallelai.plan.model import EngineEntry, Plan, Role, Task, Workspace, positions
from parallelai.plan.settings import Settings

LATER = "this version loads, checks and shows it, but cannot carry it out yet"


NEXT = "take it out to carry the plan out now; `plan check`, `show` and `graph` take it as it is"


def unsupported(plan: Plan) -> list[Problem]:
    """List what stands in the way of carrying a plan out, each with its place."""
    where = positions(plan)

    def problem(said: str, *path: str | int) -> Problem:
        line, column = where.of(*path) or (None, None)
        return Problem(f"{said}: {LATER}", where.file or None, line, column, NEXT)

    problems: list[Problem] = []
    for name, entry in plan.engines.items():
        problems += [problem(said, "engines", name) for said in _of_engine(name, entry)]
    for name, role in plan.roles.items():
        problems += [problem(said, "roles", name) for said in _of_role(name, role)]
    for key in _of_plan(plan):
        problems.append(problem(f"`{key}`", key))
    for number, task in enumerate(plan.tasks):
        problems += [problem(f"`{key}` of task `{task.id}`", "tasks", number, key) for key in _of_task(task)]
    return problems


def unsupported_settings(settings: Settings) -> list[Problem]:
    """List what config asks for that this version cannot carry out."""
    asked = ["`accounts`"] if "accounts" in settings.model_fields_set else []
    asked += [said for name, entry in settings.engines.items() for said in _of_engine(name, entry)]
    return [Problem(f"{said} in the config: {LATER}") for said in asked]


def _of_plan(plan: Plan) -> Iterator[str]:
    if "team" in plan.model_fields_set:
        yield "team"
    if not plan.workstreams and _is_sparse(plan.workspace):
        yield "workspace"


def _of_engine(name: str, entry: EngineEntry) -> Iterator[str]:
    if entry.account is not None:
        yield f"`account` of engine `{name}`"


def _of_role(name: str, role: Role) -> Iterator[str]:
    """Of a role's limits each of its tasks has the budget; the others are the run's."""
    given = role.limits.model_fields_set - {"budget"} if role.limits is not None else ()
    yield from (f"`{key}` in the `limits` of role `{name}`" for key in sorted(given))


def _of_task(task: Task) -> Iterator[str]:
    if task.workspace is not None and _is_sparse(task.workspace):
        yield "workspace"


def _is_sparse(workspace: Workspace) -> bool:
    """Whether not all files are wanted: scratch folders have them all."""
    return "sparse" in workspace.model_fields_set
