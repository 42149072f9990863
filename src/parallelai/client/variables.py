"""Refuses variables that nothing of a plan would ever see (`--set`)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from parallelai.client.project import OpenProject
from parallelai.errors import UsageError
from parallelai.plan.model import Plan


def refuse_unused(project: OpenProject, plan: Plan, given: Iterable[str]) -> None:
    """Raise `UsageError` for a variable that a plan, or the config, neither defines nor uses."""
    defined = {*plan.vars, *project.settings.vars}
    strange = [name for name in given if name not in defined]
    if not strange:
        return
    from parallelai.plan.variables import used  # needs jinja2, which plans without templates do not

    in_texts = used(_texts(project, plan))
    if in_texts is None:  # any of them may be used
        return
    known = defined | in_texts
    unused = next((name for name in strange if name not in known), None)
    if unused is not None:
        said = f"nothing here uses the variable `{unused}`, which was set"
        raise UsageError(said, next=_advice(unused, known))


def _texts(project: OpenProject, plan: Plan) -> Iterator[str]:
    """All that is rendered of a plan."""
    from parallelai.plan.variables import of_condition

    for work in plan.works:
        yield work.description
        if work.when is not None:
            yield of_condition(str(work.when))
    holders = (*plan.works, plan.defaults, project.settings.defaults)
    for name in {each.template for each in holders if each.template is not None}:
        if (template := project.templates.get(name)) is not None:
            yield template.prompt


def _advice(name: str, known: Collection[str]) -> str:
    import difflib

    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"did you mean `{near[0]}`?"
    there = ", ".join(f"`{each}`" for each in sorted(known))
    return f"the variables are {there}" if there else "there are no variables: leave it out"
