"""What holds for one task: its own keys over its role's, the plan's defaults, the config's and its template's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from parallelai.plan.model import Defaults, Plan, Role, Task, Workspace
from parallelai.plan.templates import Template, complete


def resolve(
    plan: Plan,
    task: Task,
    settings_defaults: Defaults | None = None,
    templates: Mapping[str, Template] | None = None,
) -> Task:
    """Complete a task: task > role > plan's defaults > config's > its template; only what was set counts.

    The model is taken from the task and its role only, because an engine's own entry comes before the
    defaults: `model_for` gives it for an engine. Raises `UsageError` where a template's parameter is missing.
    """
    whole = _over_defaults(plan, task, settings_defaults)
    template = (templates or {}).get(whole.template or "")
    return whole if template is None else complete(whole, template)


def resolve_all(
    plan: Plan, settings_defaults: Defaults | None = None, templates: Mapping[str, Template] | None = None
) -> list[Task]:
    """Complete all tasks and workstreams of a plan, as `resolve` does one."""
    if _says_anything(plan, settings_defaults):
        return [resolve(plan, task, settings_defaults, templates) for task in plan.works]
    return [  # most plans say it all in their tasks
        task
        if task.role is None and task.template is None
        else resolve(plan, task, settings_defaults, templates)
        for task in plan.works
    ]


def _says_anything(plan: Plan, settings_defaults: Defaults | None) -> bool:
    return any(layer.model_fields_set - {"model"} for layer in _layers(plan, settings_defaults))


def _over_defaults(plan: Plan, task: Task, settings_defaults: Defaults | None) -> Task:
    if task.role is None and not _says_anything(plan, settings_defaults):
        return task
    given = {name: getattr(task, name) for name in task.model_fields_set}
    for layer in _layers(plan, settings_defaults):
        for name in layer.model_fields_set - {"model"}:
            given.setdefault(name, getattr(layer, name))
    given |= _of_role(plan.roles.get(given.get("role") or ""))
    update = {name: value for name, value in given.items() if name not in task.model_fields_set}
    # The values were checked where they come from, so they are not checked again.
    return task.model_copy(update=update) if update else task


def _of_role(role: Role | None) -> dict[str, Any]:
    """What a role says of its tasks."""
    if role is None:
        return {}
    said: dict[str, Any] = {"model": role.model, "engine": role.engine}
    if role.limits is not None and "budget" in role.limits.model_fields_set:
        said["budget"] = role.limits.budget
    return {name: value for name, value in said.items() if value is not None}


def role_of(plan: Plan, task: Task, settings_defaults: Defaults | None = None) -> Role | None:
    """Give the role of a task: its own, else that of the defaults; None for none, or one that the plan has not."""
    layers = (layer.role for layer in _layers(plan, settings_defaults) if "role" in layer.model_fields_set)
    name = task.role if "role" in task.model_fields_set else next(layers, None)
    return plan.roles.get(name) if name is not None else None


def workspace_of(plan: Plan, task: Task) -> Workspace:
    """Say how the folder of a task is prepared: each key that it sets itself, over the plan's."""
    own = task.workspace
    if own is None:
        return plan.workspace
    return plan.workspace.model_copy(update={name: getattr(own, name) for name in own.model_fields_set})


def _layers(plan: Plan, settings_defaults: Defaults | None) -> Iterable[Defaults]:
    return (plan.defaults, settings_defaults) if settings_defaults is not None else (plan.defaults,)


def model_for(
    plan: Plan,
    task: Task,
    engine: str,
    settings_defaults: Defaults | None = None,
    template: Template | None = None,
) -> str | None:
    """Give the model that a task asks an engine for: task > role > engine's entry > defaults > its template.

    It is as it was written: a tier, a model's name or a familiar one; None where nobody named one.
    """
    role = role_of(plan, task, settings_defaults)
    entry = plan.engines.get(engine)
    own = task.model if "model" in task.model_fields_set else None
    options = [own, role and role.model, entry and entry.model]
    options += [layer.model for layer in _layers(plan, settings_defaults)]
    options.append(template.model if template is not None else None)
    return next((option for option in options if option), None)
