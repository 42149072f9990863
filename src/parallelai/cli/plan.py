"""`parallelai plan …`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from parallelai.cli.flags import variables
from parallelai.cli.grammar import group
from parallelai.cli.shared import Shared
from parallelai.errors import UsageError

if TYPE_CHECKING:
    from parallelai.client import AsyncParallelAI
    from parallelai.client.plans import Checked, Estimated, Preview, Proposal
    from parallelai.errors import Problem
    from parallelai.plan.pairs import Pair
    from parallelai.plan.positions import Positions
    from parallelai.plan.propose import Wave
    from parallelai.run.forecast import Forecast

_MOST_OF_A_PATH = 12
_plan = click.argument("path", metavar="PLAN", type=click.Path())
_set = click.option(
    "--set", "pairs", multiple=True, metavar="K=V", help="A variable, over the plan's `vars`."
)
_force = click.option("--force", "is_forced", is_flag=True, help="Overwrite a FILE that says something else.")


@group()
def plan() -> None:
    """Check, show, draw, estimate, convert and propose plans."""


@plan.command()
@_plan
@_set
def check(shared: Shared, path: str, pairs: tuple[str, ...]) -> int:
    """Check a plan; all problems at once, exit 2 if there are any."""

    async def work(ai: AsyncParallelAI) -> tuple[Checked, list[Problem]]:
        found = ai.plans.check(path, variables(pairs))
        return found, await ai.plans.absent(found)

    checked, absent = shared.call(work)
    notes = [*checked.notes, *map(str, checked.later), *map(str, absent)]
    for note in notes:
        shared.say(f"note: {note}")
    document = {
        "plan": checked.name,
        "ok": True,
        "tasks": checked.tasks,
        "instances": checked.instances,
        "notes": notes,
    }
    if checked.generated:
        document["generated"] = [
            {"files": list(made.paths), "command": list(made.generator.command)} for made in checked.generated
        ]
    if checked.plan.workstreams:
        document |= {"pairs": _pairs_data(checked.pairs), "phases": _phases_data(checked.phases)}
    shared.result(document, lambda: "\n".join(_check_lines(checked, is_verbose=shared.is_verbose)))
    return 0


def _check_lines(checked: Checked, *, is_verbose: bool) -> list[str]:
    from parallelai.plan.model import positions

    if finished := positions(checked.plan).finished:
        return [f"{checked.name}: ok, {finished}"]
    many = "s" * (checked.tasks != 1)
    lines = [f"{checked.name}: ok, {checked.tasks} task{many}, {checked.instances} to carry out"]
    lines += [f"generated: {made.said}" for made in checked.generated]
    return lines + _together_lines(checked.pairs, checked.phases, is_verbose=is_verbose)


def _together_lines(pairs: Sequence[Pair], phases: Sequence[Wave], *, is_verbose: bool) -> list[str]:
    """Who can run with whom: each pair with `is_verbose`, else how many."""
    if not phases:
        return []
    lines = [f"  {pair.said}" for pair in pairs] if is_verbose else []
    if pairs:
        many = "s" * (len(pairs) != 1)
        count = sum(pair.together for pair in pairs)
        lines.append(f"{len(pairs)} pair{many} of workstreams, {count} may run together")
    for phase in phases:
        why = f" ({phase.why})" if phase.why else ""
        lines.append(f"{phase.name}: {', '.join(phase.works)}{why}")
    return lines


def _pairs_data(pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    import dataclasses

    return [
        {**dataclasses.asdict(pair), "is_safe": pair.is_safe, "together": pair.together} for pair in pairs
    ]


def _phases_data(phases: Sequence[Wave]) -> list[dict[str, Any]]:
    return [{"name": phase.name, "tasks": list(phase.works), "why": phase.why} for phase in phases]


@plan.command()
@click.argument("path", metavar="[PLAN]", type=click.Path(), required=False)
@click.option(
    "--write", "output", type=click.Path(), metavar="FILE", help="Write the proposed plan there, as YAML."
)
@_force
def propose(shared: Shared, path: str | None, output: str | None, is_forced: bool) -> int:
    """Propose phases for a plan's workstreams, or workstreams for the project.

    Without PLAN the project's folders are looked at, and a first plan is printed.
    """
    proposal = shared.read(lambda ai: ai.plans.propose(path))
    unsafe = [pair for pair in proposal.pairs if not pair.is_safe]
    for pair in unsafe:
        shared.say(f"note: {pair.said}; {pair.next}")
    if output is not None and proposal.has_phases:
        raise UsageError(
            f"`{path}` has phases already, and what they say of gates would be lost",
            next="take `phases` out of it, or edit them by hand",
        )
    if output is not None:
        return _print_or_write(shared, {}, proposal.yaml, output, is_forced=is_forced)
    document = {
        "plan": proposal.name or None,
        "phases": _phases_data(proposal.phases),
        "pairs": _pairs_data(proposal.pairs),
        "yaml": proposal.yaml,
    }
    shared.result(document, lambda: _proposal_text(proposal, is_verbose=shared.is_verbose))
    return 0


def _proposal_text(proposal: Proposal, *, is_verbose: bool) -> str:
    if not proposal.name:
        return proposal.yaml
    return "\n".join(_together_lines(proposal.pairs, proposal.phases, is_verbose=is_verbose))


@plan.command()
@_plan
@_set
def show(shared: Shared, path: str, pairs: tuple[str, ...]) -> int:
    """Show what a plan's tasks are, who does them, and what they wait for."""
    from parallelai.client.options import CarryOut
    from parallelai.plan.convert import to_data

    async def work(ai: AsyncParallelAI) -> Preview:
        found = await ai.plans.preview(path, CarryOut(variables=variables(pairs)), is_shown=True)
        shared.say_ignored(ai.project)
        for problem in await ai.plans.absent(found):
            shared.say(f"note: {problem}")
        return found

    preview = shared.call(work)
    document = {"plan": to_data(preview.plan), "tasks": preview_tasks(preview)}
    shared.result(document, lambda: "\n".join(preview_lines(preview, is_ascii=shared.is_ascii)))
    return 0


def preview_tasks(preview: Preview) -> list[dict[str, Any]]:
    """What would be carried out, one for each instance."""
    from parallelai.plan.model import PhaseGate

    tasks = []
    for instance in preview.graph.instances:
        who = preview.job.assignment(instance)
        tasks.append(
            {
                "id": instance.id,
                "engine": []
                if isinstance(instance.task, PhaseGate) or who.error
                else list(who.choice.members),
                "why": who.why,
                "depends_on": [*instance.depends_on, *instance.awaits],
                "error": who.error,
            }
        )
    return tasks


def preview_lines(preview: Preview, *, is_ascii: bool = False, left_alone: Collection[str] = ()) -> list[str]:
    """A line for each task, and one for the whole, which does not count those that a run would leave alone."""
    from parallelai.plan.model import PhaseGate

    lines = []
    for name in preview.graph.task_ids:
        items = preview.graph.items(name)
        first = preview.graph.get(items[0])
        times = f" {'x' if is_ascii else '×'} {len(items)}" if len(items) > 1 else ""
        owns = ", ".join(getattr(first.task, "owns", ()))
        after = f"  owns {owns}" if owns else ""
        after += f"  after {', '.join(first.task.depends_on)}" if first.task.depends_on else ""
        if isinstance(first.task, PhaseGate):
            lines.append(f"{name}: {', '.join(' '.join(argv) for argv in first.task.commands)}")
            continue
        who = preview.job.assignment(first)
        if who.error is None:
            members = ", ".join(f"`{member}`" for member in who.choice.members)
            lines.append(f"{name}{times}: {members} ({who.why}){after}")
        else:
            lines += [f"{name}{times}: nobody{after}", f"  cannot start: {who.error.said}"]
    strategy, parallel = preview.job.strategy.name, preview.job.parallel
    at_once = ", ".join([f"{parallel} at once", *_roles_at_once(preview)])
    count = len(preview.graph) - sum(name in left_alone for name in preview.graph.task_ids)
    return [*lines, f"{count} to carry out, strategy {strategy}, {at_once}"]


def _roles_at_once(preview: Preview) -> list[str]:
    """What roles allow at once, of those that something has."""
    taken = {instance.task.role for instance in preview.graph.instances}
    limits = {name: role.limits for name, role in preview.job.plan.roles.items() if name in taken}
    return [
        f"at most {limit.parallel} of role `{name}`"
        for name, limit in limits.items()
        if limit is not None and limit.parallel is not None
    ]


@plan.command()
@_plan
@click.option("--format", "form", default="terminal", metavar="NAME", help="terminal, mermaid or dot.")
@_set
def graph(shared: Shared, path: str, form: str, pairs: tuple[str, ...]) -> int:
    """Draw a plan's task graph."""

    def work(ai: AsyncParallelAI) -> str:
        loaded = ai.plans.load(path, variables(pairs))
        return ai.plans.drawing(loaded, form, width=shared.width, is_ascii=shared.is_ascii)

    drawing = shared.read(work)
    shared.result({"format": form, "drawing": drawing}, drawing)
    return 0


@plan.command()
@_plan
@click.option("--parallel", type=click.IntRange(min=1), metavar="N", help="How much at once.")
@_set
def estimate(shared: Shared, path: str, parallel: int | None, pairs: tuple[str, ...]) -> int:
    """Foretell how long a plan takes: critical path, phases, P50 and P90 against one by one."""
    import dataclasses

    async def work(ai: AsyncParallelAI) -> Estimated:
        found = await ai.plans.estimate(path, parallel, variables(pairs))
        shared.say_ignored(ai.project)
        return found

    found = shared.call(work)
    document = {**dataclasses.asdict(found.forecast), "parallel": found.parallel}
    shared.result(document, lambda: "\n".join(_estimate_lines(found, is_ascii=shared.is_ascii)))
    return 0


def _estimate_lines(found: Estimated, *, is_ascii: bool) -> list[str]:
    forecast = found.forecast
    arrow = " -> " if is_ascii else " → "
    path = list(forecast.critical_path)
    if len(path) > _MOST_OF_A_PATH:
        half = _MOST_OF_A_PATH // 2
        path = [*path[:half], f"({len(path) - 2 * half} more)", *path[-half:]]
    return [
        f"critical path: {arrow.join(path)}, {duration(forecast.critical_path_seconds)}",
        *_phase_lines(found),
        f"{found.parallel} at once: {duration(forecast.p50)} (P50), {duration(forecast.p90)} (P90)",
        f"one by one: {duration(forecast.one_by_one)}{_gain(forecast)}",
    ]


def _phase_lines(found: Estimated) -> list[str]:
    """When each phase ends, where there is more than one."""
    phases = found.forecast.phases
    if len(phases) < 2:
        return []
    return [
        f"phase {found.phase_names.get(phase.phase, phase.phase)}: {phase.tasks} task{'s' * (phase.tasks != 1)}, "
        f"ends after {duration(phase.p50)} (P50), {duration(phase.p90)} (P90)"
        for phase in phases
    ]


def _gain(forecast: Forecast) -> str:
    gain = forecast.one_by_one / forecast.p50 if forecast.p50 else 1.0
    return f", {gain:.1f} times as long" if gain >= 1.1 else ""


def duration(seconds: float) -> str:
    """Write a time as people read it: `1h 05m`, `3m 20s`, `4.2 s`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02}m" if hours else f"{minutes}m {rest:02}s"


@plan.command()
@_plan
@click.option("--output", type=click.Path(), metavar="FILE", help="Write the plan there, do not print it.")
@_set
@_force
def convert(shared: Shared, path: str, output: str | None, pairs: tuple[str, ...], is_forced: bool) -> int:
    """Write a plan in canonical YAML; PLAN may be a task list in Markdown: checkboxes, headed blocks, or a table."""
    from parallelai.plan.model import positions

    def work(ai: AsyncParallelAI) -> tuple[str, Positions]:
        loaded = ai.plans.load(path, variables(pairs))
        return ai.plans.convert(loaded), positions(loaded)

    text, where = shared.read(work)
    if where.finished:
        shared.result({"yaml": None}, f"{path}: nothing to convert, {where.finished}")
        return 0
    for note in where.notes:
        shared.say(f"note: {note}")
    return _print_or_write(shared, {"yaml": text}, text, output, is_forced=is_forced)


@plan.command()
@click.option("--output", type=click.Path(), metavar="FILE", help="Write the schema there, do not print it.")
@_force
def schema(shared: Shared, output: str | None, is_forced: bool) -> int:
    """Print the JSON Schema of plan files, for editors."""
    from parallelai.plan.schema import plan_schema
    from parallelai.results.json import dump

    document = plan_schema()
    return _print_or_write(shared, document, dump(document), output, is_forced=is_forced)


def _refuse_other(path: Path, text: str) -> None:
    """Raise `UsageError` if a file is there that says something else, which its owner may have written."""
    data = text.encode("utf-8", "backslashreplace")
    try:
        size = path.stat().st_size if path.is_file() else 0
        is_other = size > 0 and (size != len(data) or path.read_bytes() != data)
    except OSError:  # writing says why
        return
    if is_other:
        raise UsageError(
            f"`{path}` is there, and says something else; it is not overwritten",
            next="`--force` overwrites it; or name another file",
        )


def _print_or_write(
    shared: Shared, document: Any, text: str, output: str | None, *, is_forced: bool = False
) -> int:
    from parallelai.results.write import write_atomically

    if output is None:
        shared.result(document, text)
        return 0
    if not is_forced:
        _refuse_other(Path(output), text)
    write_atomically(Path(output), text)
    shared.say(f"written to {output}")
    if shared.is_json:
        shared.result({"written": output}, "")
    return 0
