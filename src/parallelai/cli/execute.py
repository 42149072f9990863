"""`parallelai execute`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from parallelai.cli.flags import Carrying, carrying
from parallelai.cli.grammar import command
from parallelai.cli.shared import Shared

if TYPE_CHECKING:
    from parallelai.client import AsyncParallelAI
    from parallelai.client.options import CarryOut
    from parallelai.client.plans import Preview
    from parallelai.plan.model import Plan
    from parallelai.records import RunDocument


@command()
@click.argument("plan", metavar="PLAN", type=click.Path())
@carrying
def execute(shared: Shared, plan: str, **given: Any) -> int:
    """Carry out the plan in the file PLAN."""
    from parallelai.cli.carry import carry_out

    asked = Carrying.of(given)
    if asked.is_dry:
        return preview(shared, plan, asked)

    async def call(ai: AsyncParallelAI, carry: CarryOut) -> RunDocument:
        return await ai.carry_out_plan(*ai.load_plan(plan, carry.variables), carry)

    return carry_out(shared, asked, call)


def preview(
    shared: Shared, plan: str, asked: Carrying, check: Callable[[Plan], None] = lambda plan: None
) -> int:
    """Show what a plan would do, and by whom (`--dry-run`). `check` refuses a plan that would not be carried out."""
    from parallelai.cli.plan import preview_lines, preview_tasks
    from parallelai.plan.model import positions

    async def work(ai: AsyncParallelAI) -> tuple[Preview, list[str]]:
        found = await ai.plans.preview(plan, asked.carry)
        check(found.plan)
        shared.say_ignored(ai.project)
        return found, await _landed(ai, plan, found)

    preview, landed = shared.call(work, is_trusted=asked.carry.is_trusted)
    where = positions(preview.plan)
    for note in (*where.notes, *([where.finished] if where.finished else [])):
        shared.say(f"note: {note}")
    if landed:
        shared.say(f"note: landed already, and left alone: {', '.join(f'`{name}`' for name in landed)}")
    lines = preview_lines(preview, is_ascii=shared.is_ascii)
    shared.result({"tasks": preview_tasks(preview), "landed": landed}, "\n".join(lines))
    return 0


async def _landed(ai: AsyncParallelAI, plan: str, preview: Preview) -> list[str]:
    """The workstreams of a plan that are on their target: a run leaves these alone, also with `--new`."""
    from parallelai.client.jobs import plan_name

    if not preview.plan.workstreams:
        return []
    name, landed = plan_name(Path(plan), ai.project.root), await ai.work.landed()
    known = {each.name for each in ai.work.all(is_all=True) if each.plan == name}
    return [each.id for each in preview.plan.workstreams if each.id in landed & known]
