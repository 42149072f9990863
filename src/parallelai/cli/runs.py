"""`parallelai runs …`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from parallelai.cli.carry import Carrying, carry_out, carrying, show
from parallelai.cli.grammar import group
from parallelai.cli.shared import Shared
from parallelai.client import AsyncParallelAI
from parallelai.client.options import CarryOut
from parallelai.client.runs import RunState
from parallelai.events import Event, event_to_json
from parallelai.records import RunDocument
from parallelai.results.printable import visible
from parallelai.results.write import write_atomically

T = TypeVar("T")


@group(
    later={
        "send": "no engine of this version takes messages",
        "answer": "no engine of this version asks",
        "diff": "no engine of this version makes changes",
        "apply": "no engine of this version makes changes",
        "unapply": "no engine of this version makes changes",
    }
)
def runs() -> None:
    """List, show, follow, steer and resume runs. Without RUN, the latest is meant."""


@runs.command("list")
@click.option("--limit", default=20, type=click.IntRange(min=1), help="How many (default: 20).")
def list_(shared: Shared, limit: int) -> int:
    """List the runs of this project, the newest first."""
    states = shared.read(lambda ai: ai.runs.list())[:limit]
    document = {"runs": [{**dataclasses.asdict(state.row), "state": state.state} for state in states]}
    shared.result(document, lambda: "\n".join(_rows(states)) or "no run yet")
    return 0


def _rows(states: Sequence[RunState]) -> list[str]:
    rows = []
    for state in states:
        row = state.row
        tasks = ", ".join(f"{n} {outcome}" for outcome, n in row.tasks.items() if n)
        when = row.created_at[:16].replace("T", " ")
        rows.append(f"{row.id}  {when}  {state.state:<12} {row.plan or row.kind}  {tasks}")
    return rows


@runs.command("show")
@click.argument("run", required=False)
@click.option("--format", "format_", metavar="NAME", help="terminal, json, sarif.")
@click.option("--output", metavar="FILE", help="Write it to a file.")
def show_(shared: Shared, run: str | None, format_: str | None, output: str | None) -> int:
    """Show what a run came to, or where it stands."""

    def found(ai: AsyncParallelAI) -> tuple[RunDocument, Path, str]:
        return ai.runs.show(run), ai.project.root, ai.runs.state(run).state

    document, root, state = shared.read(found)
    if state in ("running", "interrupted"):
        shared.say(f"run {document.run} is {state}; this is where it stands")
    show(shared, Carrying(CarryOut(), False, None, format_, output), root, document)
    return 0


@runs.command()
@click.argument("run", required=False)
@click.argument("task", required=False)
@click.option("--follow", "-f", "is_following", is_flag=True, help="Go on until the run ends.")
def logs(shared: Shared, run: str | None, task: str | None, is_following: bool) -> int:
    """Print the events of a run, or with TASK what its attempts printed."""
    if task is not None:
        return _print_streams(shared, run, task)

    async def work(ai: AsyncParallelAI) -> None:
        if is_following:
            async for event in ai.runs.follow(run):
                _print_event(shared, event)
        else:
            for event in ai.runs.events(run):
                _print_event(shared, event)

    shared.call(work)
    return 0


def _print_event(shared: Shared, event: Event) -> None:
    line = event_to_json(event)
    if not shared.is_json:
        data = line.partition('"data":')[2][:-1]
        about = event.task or ""
        line = visible(f"{event.at[11:19]} {event.type:<18} {about} {data}"[: max(shared.width, 40)])
    click.echo(line)


def _print_streams(shared: Shared, run: str | None, task: str) -> int:
    for log in shared.read(lambda ai: ai.runs.logs(run, task)):
        shared.say(f"{log.task}, attempt {log.attempt}, `{log.engine}`")
        if not log.path.exists():
            shared.say("  (it printed nothing while it worked)")
            continue
        for line in log.path.read_text(encoding="utf-8", errors="replace").splitlines():
            click.echo(line if shared.is_json else visible(_stream_line(line)))
    return 0


def _stream_line(line: str) -> str:
    try:
        event: dict[str, Any] = json.loads(line)
    except ValueError:
        return line
    return str(event.get("delta") or f"[{event.get('type')}] {line}").rstrip("\n")


@runs.command()
@click.argument("run", required=False)
@carrying
def resume(shared: Shared, run: str | None, **given: Any) -> int:
    """Go on with a run: what is done stays done. A paused one is told to go on."""
    asked = Carrying.of(given)

    async def call(ai: AsyncParallelAI, carry: CarryOut) -> RunDocument | None:
        document = await ai.runs.resume(run, carry)
        if document is None:
            shared.say("told to go on")
        return document

    return carry_out(shared, asked, call)


@runs.command()
@click.argument("run", required=False)
@click.argument("task", required=False)
def cancel(shared: Shared, run: str | None, task: str | None) -> int:
    """Cancel a task of a running run, or all that is left of it."""
    return _said(shared, shared.call(lambda ai: ai.runs.cancel(run, task)))


@runs.command()
@click.argument("run", required=False)
def pause(shared: Shared, run: str | None) -> int:
    """Let a running run start nothing more until `runs resume`."""
    return _said(shared, shared.call(lambda ai: ai.runs.pause(run)))


@runs.command()
@click.argument("run")
@click.argument("description")
@click.option("--id", "id_", required=True, help="The task's id.")
@click.option("--engine", metavar="NAME", help="Who does it.")
@click.option("--files", metavar="PATTERNS", help="What it is about.")
@click.option("--after", "depends_on", multiple=True, metavar="ID", help="What it depends on.")
@click.option("--priority", metavar="P", help="urgent, high, normal, low or a number.")
def add(shared: Shared, run: str, **given: Any) -> int:
    """Give a running run another task."""
    task = {key.rstrip("_"): value for key, value in given.items() if value}
    if "depends_on" in task:
        task["depends_on"] = list(task["depends_on"])
    return _said(shared, shared.call(lambda ai: ai.runs.add(run, task)))


@runs.command()
@click.argument("run")
@click.argument("task")
def retry(shared: Shared, run: str, task: str) -> int:
    """Let a running run try a task again."""
    return _said(shared, shared.call(lambda ai: ai.runs.retry(run, task)))


def _said(shared: Shared, answer: str) -> int:
    shared.result({"said": answer}, answer)
    return 0


@runs.command()
@click.argument("a")
@click.argument("b")
def compare(shared: Shared, a: str, b: str) -> int:
    """Say which findings were fixed, which are new and which stayed, from run A to run B."""
    found = shared.read(lambda ai: ai.runs.compare(a, b))
    lines = [f"{len(found.fixed)} fixed, {len(found.new)} new, {len(found.stayed)} stayed"]
    for sign, findings in (("-", found.fixed), ("+", found.new)):
        lines += [
            visible(f"{sign} {f.file}:{f.line[0]} {f.severity} {f.rule or f.category}: {f.message}")
            for f in findings
        ]
    shared.result(found, "\n".join(lines))
    return 0


@runs.command()
@click.argument("run", required=False)
@click.option("--output", metavar="FILE", help="Write the events to a file.")
def export(shared: Shared, run: str | None, output: str | None) -> int:
    """Print a run's events as lines of JSON."""
    text = shared.read(lambda ai: "".join(f"{line}\n" for line in ai.runs.export(run)))
    if output is not None:
        write_atomically(Path(output), text)
        shared.say(f"written to {output}")
    else:
        click.echo(text, nl=False)
    return 0


@runs.command()
@click.option("--keep", default=20, help="How many of the newest to keep (default: 20).")
def prune(shared: Shared, keep: int) -> int:
    """Delete all finished runs but the newest."""
    if not shared.is_yes and not click.confirm(f"delete all finished runs but the newest {keep}?", err=True):
        return 0
    gone = shared.read(lambda ai: ai.runs.prune(keep))
    shared.result({"deleted": list(gone)}, f"deleted {len(gone)} runs")
    return 0


@runs.command()
@click.argument("run")
def delete(shared: Shared, run: str) -> int:
    """Delete a run, with its logs."""
    row = shared.read(lambda ai: ai.runs.find(run))
    if not shared.is_yes and not click.confirm(f"delete run {row.id}?", err=True):
        return 0
    gone = shared.read(lambda ai: ai.runs.delete(run))
    shared.result({"deleted": [gone]}, f"deleted {gone}")
    return 0
