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
    from parallelai.errors import Problem
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
        return await ai.carry_out_plan(*await ai.load_plan(plan, carry.variables), carry)

    return carry_out(shared, asked, call)


def preview(
    shared: Shared, plan: str, asked: Carrying, check: Callable[[Plan], None] = lambda plan: None
) -> int:
    """Show what a plan would do, and by whom (`--dry-run`). `check` refuses a plan that would not be carried out."""
    from parallelai.cli.plan import preview_lines, preview_tasks
    from parallelai.plan.model import positions

    async def work(ai: AsyncParallelAI) -> tuple[Preview, list[str], dict[str, str], list[Problem]]:
        found = await ai.plans.preview(plan, asked.carry)
        check(found.plan)
        await _refuse_over(ai, found)
        shared.say_ignored(ai.project)
        left = _left(ai, plan, found, asked.carry)
        return found, await _landed(ai, plan, found), left, await ai.plans.absent(found)

    preview, landed, left, absent = shared.call(work, is_trusted=asked.carry.is_trusted)
    where = positions(preview.plan)
    notes = [*where.notes, *([where.finished] if where.finished else []), *map(str, absent)]
    if landed:
        notes.append(f"landed already, and left alone: {', '.join(f'`{name}`' for name in landed)}")
    notes += [f"left alone: {why}" for why in left.values()]
    for note in notes:
        shared.say(f"note: {note}")
    lines = preview_lines(preview, is_ascii=shared.is_ascii, left_alone={*landed, *left})
    document = {"tasks": preview_tasks(preview), "landed": landed, "left": left, "notes": notes}
    shared.result(document, "\n".join(lines))
    return 0


async def _refuse_over(ai: AsyncParallelAI, preview: Preview) -> None:
    """Refuse what a run would refuse: to begin over what a person is at."""
    if preview.plan.workstreams:
        from parallelai.client.workstreams.stream_room import refuse_over

        await refuse_over(ai.project, preview.job)


def _left(ai: AsyncParallelAI, plan: str, preview: Preview, carry: CarryOut) -> dict[str, str]:
    """The workstreams of a plan that a person took out, and why; none for a call that does them all the same."""
    from parallelai.client.naming import plan_name

    if not preview.plan.workstreams or carry.is_new or not carry.is_resume:
        return {}
    left = ai.work.left_out(plan_name(Path(plan), ai.project.root))
    tasks = (instance.task for instance in preview.graph.instances)
    unasked = (task.id for task in tasks if not {task.id, *task.tags} & set(carry.only))
    return {name: left[name] for name in unasked if name in left}


async def _landed(ai: AsyncParallelAI, plan: str, preview: Preview) -> list[str]:
    """The workstreams of a plan that are on their target: a run leaves these alone, also with `--new`."""
    from parallelai.client.naming import plan_name

    if not preview.plan.workstreams:
        return []
    name, landed = plan_name(Path(plan), ai.project.root), await ai.work.landed()
    known = {each.name for each in ai.work.all(is_all=True) if each.plan == name}
    return [each.id for each in preview.plan.workstreams if each.id in landed & known]
