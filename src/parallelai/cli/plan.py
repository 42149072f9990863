"""`parallelai plan …`."""

from __future__ import annotations

import json
from typing import Any

import click

from parallelai.cli.grammar import group
from parallelai.cli.shared import Shared
from parallelai.client import AsyncParallelAI
from parallelai.client.plans import Checked, Preview
from parallelai.results.write import write_atomically
from parallelai.run.forecast import Forecast


@group(later={"propose": "`parallelai init` writes a first plan"})
def plan() -> None:
    """Check, show, draw, estimate and convert plans."""


@plan.command()
@click.argument("path", metavar="PLAN")
def check(shared: Shared, path: str) -> int:
    """Check a plan; all problems at once, exit 2 if there are any."""
    checked: Checked = shared.read(lambda ai: ai.plans.check(path))
    for note in checked.notes:
        shared.say(f"note: {note}")
    for problem in checked.later:
        shared.say(f"note: {problem}")
    shared.result(
        {
            "plan": checked.name,
            "ok": True,
            "tasks": checked.tasks,
            "instances": checked.instances,
            "notes": [*checked.notes, *(str(problem) for problem in checked.later)],
        },
        f"{checked.name}: ok, {checked.tasks} task{'s' * (checked.tasks != 1)}, {checked.instances} to carry out",
    )
    return 0


@plan.command()
@click.argument("path", metavar="PLAN")
@click.option("--engine", metavar="NAME", hidden=True)
def show(shared: Shared, path: str, engine: str | None) -> int:
    """Show what a plan's tasks are, who does them, and what they wait for."""

    async def work(ai: AsyncParallelAI) -> Preview:
        return await ai.plans.preview(path)

    preview: Preview = shared.call(work)
    document = {"plan": preview.job.plan.model_dump(mode="json", by_alias=True, exclude_unset=True)}
    shared.result(document, lambda: "\n".join(preview_lines(preview)))
    return 0


def preview_lines(preview: Preview) -> list[str]:
    """A line for each task, and one for the whole."""
    lines = []
    for name in preview.graph.task_ids:
        items = preview.graph.items(name)
        first = preview.graph.get(items[0])
        who = preview.job.assignment(first)
        members = ", ".join(who.choice.members)
        times = f" × {len(items)}" if len(items) > 1 else ""
        after = f"  after {', '.join(first.task.depends_on)}" if first.task.depends_on else ""
        lines.append(f"{name}{times}: `{members}` ({who.why}){after}")
        if who.error is not None:
            lines.append(f"  cannot start: {who.error.said}")
    lines += [f"{work.id}: workstream, owns {', '.join(work.owns)}" for work in preview.job.plan.workstreams]
    strategy, parallel = preview.job.strategy.name, preview.job.parallel
    return [*lines, f"{len(preview.graph)} to carry out, strategy {strategy}, {parallel} at once"]


@plan.command()
@click.argument("path", metavar="PLAN")
@click.option("--format", "form", default="terminal", metavar="NAME", help="terminal, mermaid or dot.")
def graph(shared: Shared, path: str, form: str) -> int:
    """Draw a plan's task graph."""
    drawing = shared.read(lambda ai: ai.plans.drawing(path, form, width=shared.width))
    shared.result({"format": form, "drawing": drawing}, drawing)
    return 0


@plan.command()
@click.argument("path", metavar="PLAN")
@click.option("--parallel", type=click.IntRange(min=1), metavar="N", help="How much at once.")
def estimate(shared: Shared, path: str, parallel: int | None) -> int:
    """Foretell how long a plan takes: critical path, phases, P50 and P90 against one by one."""

    async def work(ai: AsyncParallelAI) -> Forecast:
        return await ai.plans.estimate(path, parallel)

    forecast: Forecast = shared.call(work)
    shared.result(forecast, lambda: "\n".join(_estimate_lines(forecast)))
    return 0


def _estimate_lines(forecast: Forecast) -> list[str]:
    path = " → ".join(forecast.critical_path)
    gain = forecast.one_by_one / forecast.p50 if forecast.p50 else 1.0
    return [
        f"critical path: {path}",
        f"in parallel: {duration(forecast.p50)} (P50), {duration(forecast.p90)} (P90)",
        f"one by one: {duration(forecast.one_by_one)}, {gain:.1f}× as long",
    ]


def duration(seconds: float) -> str:
    """Write a time as people read it: `1h 05m`, `3m 20s`, `4.2 s`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02}m" if hours else f"{minutes}m {rest:02}s"


@plan.command()
@click.argument("path", metavar="PLAN")
@click.option("--output", metavar="FILE", help="Write the plan there, instead of printing it.")
def convert(shared: Shared, path: str, output: str | None) -> int:
    """Write a plan in canonical YAML."""
    from pathlib import Path

    text = shared.read(lambda ai: ai.plans.convert(path))
    if output is not None:
        write_atomically(Path(output), text)
        shared.say(f"written to {output}")
    else:
        shared.result({"yaml": text}, text)
    return 0


@plan.command()
def schema(shared: Shared) -> int:
    """Print the JSON Schema of plan files, for editors."""
    document: dict[str, Any] = shared.read(lambda ai: ai.plans.schema())
    click.echo(json.dumps(document, indent=2))
    return 0
