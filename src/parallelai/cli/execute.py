"""`parallelai execute`."""

from __future__ import annotations

from typing import Any

import click

from parallelai.cli.carry import Carrying, carry_out, carrying
from parallelai.cli.grammar import command
from parallelai.cli.plan import preview_lines
from parallelai.cli.shared import Shared
from parallelai.client import AsyncParallelAI
from parallelai.client.jobs import plan_name
from parallelai.client.options import CarryOut
from parallelai.client.plans import Preview
from parallelai.errors import UsageError
from parallelai.records import RunDocument


def _variables(pairs: tuple[str, ...]) -> dict[str, Any]:
    """`--set k=v`; numbers and true/false are taken as such. Raises `UsageError`."""
    import yaml

    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise UsageError(
                f"`--set {pair}` is not of the form `name=value`", next="write `--set name=value`"
            )
        try:
            found[name] = yaml.safe_load(value) if value else ""
        except yaml.YAMLError:
            found[name] = value
    return found


@command()
@click.argument("plan", metavar="PLAN")
@click.option("--strategy", metavar="NAME", help="dag, parallel, batch:N, pipeline.")
@click.option("--set", "pairs", multiple=True, metavar="K=V", help="A variable of the plan.")
@click.option("--only", multiple=True, metavar="ID|TAG", help="These tasks, and what they depend on.")
@carrying
def execute(shared: Shared, plan: str, **given: Any) -> int:
    """Carry out the plan in the file PLAN."""
    only = tuple(word for text in given.pop("only") for word in text.split(",") if word)
    asked = Carrying.of(
        given, strategy=given.pop("strategy"), variables=_variables(given.pop("pairs")), only=only
    )
    if asked.is_dry:
        return _preview(shared, plan, asked)

    async def call(ai: AsyncParallelAI, carry: CarryOut) -> RunDocument:
        loaded = ai.plans.load(plan, carry.variables)
        return await ai.carry_out_plan(loaded, plan_name_of(ai, plan), carry)

    return carry_out(shared, asked, call)


def plan_name_of(ai: AsyncParallelAI, plan: str) -> str:
    """What the plan in a file is known by."""
    from pathlib import Path

    return plan_name(Path(plan), ai.project.root)


def _preview(shared: Shared, plan: str, asked: Carrying) -> int:
    async def work(ai: AsyncParallelAI) -> Preview:
        return await ai.plans.preview(plan, asked.carry)

    preview: Preview = shared.call(work, is_trusted=asked.carry.is_trusted)
    document = [
        {"id": instance.id, "engine": list(preview.job.assignment(instance).choice.members)}
        for instance in preview.graph.instances
    ]
    shared.result({"tasks": document}, lambda: "\n".join(preview_lines(preview)))
    return 0
