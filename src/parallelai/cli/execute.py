"""`parallelai execute`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from parallelai.cli.flags import Carrying, carrying
from parallelai.cli.grammar import command
from parallelai.cli.shared import Shared

if TYPE_CHECKING:
    from parallelai.client import AsyncParallelAI
    from parallelai.client.options import CarryOut
    from parallelai.client.plans import Preview
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


def preview(shared: Shared, plan: str, asked: Carrying) -> int:
    """Show what a plan would do, and by whom (`--dry-run`)."""
    from parallelai.cli.plan import preview_lines, preview_tasks
    from parallelai.plan.model import positions

    async def work(ai: AsyncParallelAI) -> Preview:
        found = await ai.plans.preview(plan, asked.carry)
        shared.say_ignored(ai.project)
        return found

    preview = shared.call(work, is_trusted=asked.carry.is_trusted)
    where = positions(preview.plan)
    for note in (*where.notes, *([where.finished] if where.finished else [])):
        shared.say(f"note: {note}")
    lines = preview_lines(preview, is_ascii=shared.is_ascii)
    shared.result({"tasks": preview_tasks(preview)}, "\n".join(lines))
    return 0
