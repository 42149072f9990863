"""`parallelai runs …`."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from parallelai.cli import completing
from parallelai.cli.flags import Carrying, carrying
from parallelai.cli.grammar import group
from parallelai.cli.shared import Shared
from parallelai.errors import UsageError
from parallelai.results.printable import visible

if TYPE_CHECKING:
    from parallelai.client import AsyncParallelAI
    from parallelai.client.options import CarryOut
    from parallelai.client.pruning import Holding
    from parallelai.records import RunDocument
    from parallelai.run.unfinished import Unfinished

_MOST_UNFINISHED = 20
_run = click.argument("run", required=False, shell_complete=completing.runs)
_task = click.argument("task", required=False)
_tasks = click.argument("tasks", nargs=-1, metavar="[TASK]...")


@group()
def runs() -> None:
    """List, show, follow, steer and resume runs. Without RUN, or with `latest` as RUN, the latest is meant."""


@runs.command("list")
@click.option("--limit", default=20, type=click.IntRange(min=1), metavar="N", help="How many (default: 20).")
def list_(shared: Shared, limit: int) -> int:
    """List the runs of this project, the newest first."""
    from parallelai.cli import listings

    states = shared.read(lambda ai: ai.runs.list())
    shown = states[:limit]
    document = {"runs": [{**dataclasses.asdict(state.row), "state": state.state} for state in shown]}
    shared.result(document, lambda: "\n".join(listings.run_rows(shown)) or "no run yet")
    if len(states) > limit:
        shared.say(f"{len(states) - limit} older ones: `--limit {len(states)}` shows all")
    return 0


@runs.command("show")
@_run
@click.option(
    "--format",
    "format_",
    metavar="NAME",
    shell_complete=completing.formats,
    help="How to print: terminal, json, sarif, html, markdown, junit, github, rdjsonl.",
)
@click.option("--output", type=click.Path(), metavar="FILE", help="Write it to a file, all at once.")
def show_(shared: Shared, run: str | None, format_: str | None, output: str | None) -> int:
    """Show what a run came to, or where it stands."""
    from parallelai.cli.carry import check_output, show
    from parallelai.client.options import CarryOut
    from parallelai.client.runs import OPEN
    from parallelai.results.printable import visible

    asked = Carrying(CarryOut(), format=format_, output=output)
    check_output(asked)

    def found(ai: AsyncParallelAI) -> tuple[RunDocument, Path, str, str, tuple[Unfinished, ...]]:
        state = ai.runs.state(run).state
        left = ai.runs.unfinished(run) if state in OPEN else ()
        return ai.runs.show(run), ai.project.root, state, ai.runs.going_on(run), left

    document, root, state, going_on, left = shared.read(found)
    if state == "interrupted":
        shared.say(visible(f"run {document.run} is interrupted; go on with `{going_on}`"))
    elif state == "paused":
        shared.say(visible(f"run {document.run} is paused; `{going_on}` lets it go on"))
    elif state == "running":
        shared.say(f"run {document.run} is running; this is where it stands")
    show(shared, asked, root, document)
    _tell_unfinished(shared, left, is_running=state in ("running", "paused"))
    return 0


def _tell_unfinished(shared: Shared, left: Sequence[Unfinished], *, is_running: bool) -> None:
    """Name the tasks that have not ended, those that have begun first; of a running run, how many run and wait."""
    if not left:
        return
    begun = sorted(left, key=lambda one: one.state == "not started")
    shown = begun if shared.is_verbose else begun[:_MOST_UNFINISHED]
    busy = sum(one.is_at_work for one in left)
    standing = f" ({busy:,} at work, {len(left) - busy:,} waiting)" if is_running else ""
    shared.say(f"{len(left):,} {'task has' if len(left) == 1 else 'tasks have'} not ended{standing}:")
    for one in shown:
        shared.say(f"  {one.task}: {one.state}")
    if len(shown) < len(left):
        shared.say(f"  and {len(left) - len(shown):,} more: `--verbose` lists all")


@runs.command()
@_run
@_task
@click.option("--follow", "-f", "is_following", is_flag=True, help="Go on until the run ends.")
def logs(shared: Shared, run: str | None, task: str | None, is_following: bool) -> int:
    """Print what happened in a run, a line for each event, or with TASK what its attempts printed.

    With --json: the events whole; with --follow, too, a line of JSON for each, as it comes.
    """
    from parallelai.cli import following, listings

    run, task = shared.read(lambda ai: ai.runs.named(run, task))
    if task is not None:
        return listings.print_streams(shared, run, task)
    if is_following:
        return following.follow(shared, run)
    return listings.print_events(shared, run) if shared.is_json else following.print_logs(shared, run)


@runs.command()
@_run
@carrying
def resume(shared: Shared, run: str | None, **given: Any) -> int:
    """Go on with a run: what is done stays done. A paused one is told to go on."""
    from parallelai.cli.carry import carry_out

    asked = Carrying.of(given)
    if asked.carry.is_new:
        raise UsageError("`runs resume` goes on with a run, and `--new` starts one", next="leave `--new` out")
    if asked.is_dry:
        return _preview(shared, run)

    async def call(ai: AsyncParallelAI, carry: CarryOut) -> RunDocument | None:
        document = await ai.runs.resume(run, carry)
        if document is None:
            _tell(shared, f"run `{ai.runs.find(run).id}` is being carried out; it was told to go on")
        return document

    return carry_out(shared, asked, call)


for _option in resume.params:  # all that carries out a plan takes them (CONTRACTS §4); here they say nothing
    if isinstance(_option, click.Option) and _option.name in ("is_resume", "is_new"):
        _option.hidden = True


def _preview(shared: Shared, run: str | None) -> int:
    """Say what is left of a run."""
    found, left = shared.read(lambda ai: (ai.runs.find(run).id, ai.runs.left(run)))
    closing = f"{len(left)} left of run {found}, and whatever depends on what changed since"
    shared.result({"run": found, "tasks": list(left)}, "\n".join([*left, closing]))
    return 0


@runs.command()
@_run
@_task
def cancel(shared: Shared, run: str | None, task: str | None) -> int:
    """Cancel a task of a running run, or all that is left of it."""
    return _ask(shared, run, task, lambda ai, run, task: ai.runs.cancel(run, task))


@runs.command()
@_run
def pause(shared: Shared, run: str | None) -> int:
    """Let a running run start nothing more until `runs resume`."""
    _tell(shared, shared.call(lambda ai: ai.runs.pause(run)))
    return 0


@runs.command()
@_run
@_task
def retry(shared: Shared, run: str | None, task: str | None) -> int:
    """Let a running run try a task again."""

    async def again(ai: AsyncParallelAI, run: str, task: str | None) -> str:
        if task is None:
            raise UsageError("which task?", next=f"name it: `parallelai runs retry {run} TASK`")
        return await ai.runs.retry(run, task)

    return _ask(shared, run, task, again)


@runs.command()
@_run
@_tasks
def diff(shared: Shared, run: str | None, tasks: tuple[str, ...]) -> int:
    """Show what the tasks of a run changed."""
    from parallelai.cli import changes

    return changes.print_diff(shared, run, tasks)


@runs.command()
@_run
@_tasks
def apply(shared: Shared, run: str | None, tasks: tuple[str, ...]) -> int:
    """Put what tasks changed into your checkout: each task all or nothing, never over your own edits."""
    from parallelai.cli import changes

    return changes.put(shared, run, tasks, is_undo=False)


@runs.command()
@_run
@_tasks
def unapply(shared: Shared, run: str | None, tasks: tuple[str, ...]) -> int:
    """Take what was applied out of your checkout again, byte by byte."""
    from parallelai.cli import changes

    return changes.put(shared, run, tasks, is_undo=True)


@runs.command()
@click.argument("words", nargs=-1, required=True, metavar="[RUN] TASK TEXT")
def send(shared: Shared, words: tuple[str, ...]) -> int:
    """Tell the assistant that works on a task something; engines that take messages only."""
    run, task, text = _last_of(words, 3, "runs send [RUN] TASK TEXT")
    _tell(shared, shared.call(lambda ai: ai.runs.send(run, str(task), str(text))))
    return 0


@runs.command()
@click.argument("words", nargs=-1, metavar="[RUN] QUESTION OPTION")
def answer(shared: Shared, words: tuple[str, ...]) -> int:
    """Answer what an assistant asks leave for; without QUESTION, list what is open."""
    from parallelai.cli import listings

    if len(words) <= 1:
        open_ = shared.read(lambda ai: ai.runs.questions(words[0] if words else None))
        document = {"questions": [dataclasses.asdict(question) for question in open_]}
        shared.result(document, lambda: "\n".join(listings.questions(open_)) or "nobody asks anything")
        return 0
    run, question, option = _last_of(words, 3, "runs answer [RUN] QUESTION OPTION")
    _tell(shared, shared.call(lambda ai: ai.runs.answer(run, str(question), str(option))))
    return 0


def _last_of(words: tuple[str, ...], most: int, usage: str) -> tuple[str | None, ...]:
    """The arguments, the first of which may be left out. Raises `UsageError` for another number of them."""
    if len(words) not in (most - 1, most):
        raise UsageError("wrong number of arguments", next=f"`parallelai {usage}`; quote what has spaces")
    return (None, *words)[-most:]


@runs.command()
@click.argument("words", nargs=-1, required=True, metavar="[RUN] DESCRIPTION")
@click.option("--id", "id_", required=True, metavar="ID", help="The task's id.")
@click.option("--engine", metavar="NAME", shell_complete=completing.engines, help="Who does it.")
@click.option("--files", metavar="PATTERNS", help="What it is about.")
@click.option("--after", "depends_on", multiple=True, metavar="ID", help="What it depends on.")
@click.option("--priority", metavar="P", help="urgent, high, normal, low or a number.")
def add(shared: Shared, words: tuple[str, ...], **given: Any) -> int:
    """Give a running run another task."""
    if len(words) > 2:
        raise UsageError("a task has one description", next='quote it: "look at the log"')
    run, description = (None, *words)[-2:]
    task = {"description": description, **{key.rstrip("_"): value for key, value in given.items() if value}}
    if "depends_on" in task:
        task["depends_on"] = list(task["depends_on"])
    _tell(shared, shared.call(lambda ai: ai.runs.add(run, task)))
    return 0


_Asking = Callable[["AsyncParallelAI", str, str | None], Awaitable[str]]


def _ask(shared: Shared, run: str | None, task: str | None, asking: _Asking) -> int:
    """Ask something of a running run, or of a task of it, and tell its answer."""

    async def work(ai: AsyncParallelAI) -> str:
        found, wanted = ai.runs.named(run, task)
        return await asking(ai, found, wanted)

    _tell(shared, shared.call(work))
    return 0


def _tell(shared: Shared, answer: str) -> None:
    shared.result({"said": answer}, answer)


@runs.command()
@click.argument("a", shell_complete=completing.runs)
@click.argument("b", required=False, shell_complete=completing.runs)
def compare(shared: Shared, a: str, b: str | None) -> int:
    """Say what was fixed, is new or stayed, and which tasks ended otherwise, from run A to B, or the latest."""
    from parallelai.cli import listings

    found = shared.read(lambda ai: ai.runs.compare(a, b))
    shared.result(found, lambda: "\n".join(listings.comparison(found, is_ascii=shared.is_ascii)))
    return 0


@runs.command()
@_run
@click.option("--output", type=click.Path(), metavar="FILE", help="Write the events to a file.")
def export(shared: Shared, run: str | None, output: str | None) -> int:
    """Print a run's events as lines of JSON; with --json as one document."""
    from parallelai.cli import listings

    if output is None:
        return listings.print_events(shared, run)
    from parallelai.results.write import write_atomically

    text = shared.read(lambda ai: "".join(f"{line}\n" for line in ai.runs.export(run)))
    write_atomically(Path(output), text)
    shared.say(f"written to {output}")
    if shared.is_json:
        shared.result({"written": output}, "")
    return 0


@runs.command()
@click.option(
    "--keep",
    default=20,
    type=click.IntRange(min=0),
    metavar="N",
    help="How many of the newest to keep (default: 20).",
)
def prune(shared: Shared, keep: int) -> int:
    """Delete all finished runs but the newest, and but those that keep work which nobody has taken."""
    doomed, held = shared.call(lambda ai: ai.runs.finished(keep))
    question = f"Delete {_number(len(doomed))}, all finished ones but the newest {keep}?"
    if doomed and not shared.confirm(question):
        doomed = ()
    return _delete(shared, shared.call(lambda ai: ai.runs.prune(keep)) if doomed else (), held)


@runs.command()
@_run
def delete(shared: Shared, run: str | None) -> int:
    """Delete a run, with its logs and what it keeps."""
    row = shared.read(lambda ai: ai.runs.find(run))
    if not shared.confirm(f"Delete run {row.id} ({row.plan or row.kind})?"):
        return _delete(shared, ())
    return _delete(shared, (shared.call(lambda ai: ai.runs.delete(row.id)),))


def _delete(shared: Shared, gone: tuple[str, ...], held: tuple[Holding, ...] = ()) -> int:
    lines = [f"deleted {gone[0] if len(gone) == 1 else _number(len(gone))}"]
    lines += [f"{one.run}: kept: {one.why}\n  {one.next}" for one in held]
    kept = [{"run": one.run, "why": one.why, "next": one.next} for one in held]
    text = "\n".join(visible(line) for each in lines for line in each.split("\n"))
    shared.result({"deleted": list(gone), "kept": kept}, text)
    return 0


def _number(count: int) -> str:
    return f"{count or 'no'} run{'s' * (count != 1)}"
