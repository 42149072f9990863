"""The flags of all that carries out a plan, and the carrying out: progress, signals, events, the result."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, TypeVar

import click

from parallelai.cli.progress import Progress
from parallelai.cli.shared import Shared
from parallelai.client import AsyncParallelAI
from parallelai.client.arguments import budget_of, choice_of, seconds_of, severity_of, strategy_of
from parallelai.client.options import CarryOut
from parallelai.errors import ParallelAIError, UsageError
from parallelai.events import Event, event_to_json
from parallelai.plan.files import read_text
from parallelai.plan.model import Choice
from parallelai.records import RunDocument
from parallelai.results import formats
from parallelai.results.write import write_atomically

F = TypeVar("F", bound=Callable[..., Any])
SEVERITIES = ["critical", "high", "medium", "low", "info", "never"]
NOT_YET = {
    "apply": "no engine of this version makes changes",
    "monitor": "this version has no dashboard; `--events -` and `parallelai runs logs --follow` show a run live",
}

_FLAGS = (
    click.option("--engine", multiple=True, metavar="NAME", help="Who does the tasks that name nobody."),
    click.option("--model", metavar="NAME", help="A tier (best, standard, fast) or a model's name."),
    click.option("--parallel", type=click.IntRange(min=1), metavar="N", help="How much at once."),
    click.option("--budget", metavar="LIMITS", help="Totals of the run, such as 10usd,5Mtok,4h."),
    click.option("--timeout", metavar="TIME", help="An attempt's time-out, such as 30m."),
    click.option("--no-cache", "is_uncached", is_flag=True, help="Use no stored replies."),
    click.option("--resume", "is_resume", is_flag=True, help="Go on with the latest run of the same."),
    click.option("--new", "is_new", is_flag=True, help="Start a new run even then."),
    click.option("--trust", "is_trusted", is_flag=True, help="What the project's config names may run."),
    click.option("--fail-on", type=click.Choice(SEVERITIES), help="Exit with 1 from this severity on."),
    click.option("--events", metavar="FILE", help="Write events as JSON lines; - is stdout."),
    click.option("--format", "format_", metavar="NAME", help="How to print: terminal, json, sarif."),
    click.option("--output", metavar="FILE", help="Write the result to a file, all at once."),
    click.option("--apply", "is_apply", is_flag=True, help="Apply changes at the end (a later version)."),
    click.option("--monitor", "is_monitor", is_flag=True, help="Show a live page (a later version)."),
    click.option("--dry-run", "is_dry", is_flag=True, help="Show what would be done, and by whom."),
)


def carrying(function: F) -> F:
    """Give a command the flags of all that carries out a plan."""
    wrapped: Any = function
    for flag in reversed(_FLAGS):
        wrapped = flag(wrapped)
    return wrapped  # type: ignore[no-any-return]  # click's decorators are untyped here


@dataclass(frozen=True, slots=True)
class Carrying:
    """What the flags said."""

    carry: CarryOut
    is_dry: bool
    events: str | None
    format: str | None
    output: str | None

    @classmethod
    def of(cls, given: dict[str, Any], **more: Any) -> Carrying:
        """Take the flags out of a command's arguments. Raises `UsageError`."""
        for flag, why in NOT_YET.items():
            if given.pop(f"is_{flag}"):
                raise UsageError(f"`--{flag}` is not built yet in this version", next=why)
        engine = given.pop("engine")
        carry = CarryOut(
            engine=_choice(engine),
            model=given.pop("model"),
            parallel=given.pop("parallel"),
            budget=budget_of(given.pop("budget")),
            timeout_seconds=seconds_of(given.pop("timeout")),
            is_cacheable=not given.pop("is_uncached"),
            is_resume=given.pop("is_resume"),
            is_new=given.pop("is_new"),
            is_trusted=given.pop("is_trusted"),
            fail_on=severity_of(given.pop("fail_on")),
            **{"strategy": strategy_of(more.pop("strategy", None)), **more},
        )
        return cls(
            carry,
            given.pop("is_dry"),
            given.pop("events"),
            given.pop("format_"),
            given.pop("output"),
        )


def _choice(engines: Sequence[str]) -> Choice | None:
    """One engine, or several: a vote."""
    return choice_of(list(engines))[0] if engines else None


Call = Callable[[AsyncParallelAI, CarryOut], Awaitable[RunDocument | None]]


def carry_out(shared: Shared, asked: Carrying, call: Call) -> int:
    """Carry something out with progress, print its result, and give the exit code."""
    _check_output(asked)

    async def work(ai: AsyncParallelAI) -> RunDocument | None:
        with _events(asked.events) as write, Progress(shared) as progress, _signals(ai):

            def watch(events: Sequence[Event]) -> None:
                for event in events:
                    write(event)
                progress.take(events)

            document = await call(ai, _watched(asked.carry, watch))
        if document is not None:
            show(shared, asked, ai.project.root, document)
            _tell_what_is_left(shared, document)
        return document

    document: RunDocument | None = shared.call(work, is_trusted=asked.carry.is_trusted)
    return document.exit if document is not None else 0


def _check_output(asked: Carrying) -> None:
    """Refuse what could not be printed or written in the end, before anything is done and paid."""
    if asked.format is not None:
        formats.find(asked.format)
    if asked.output is not None:
        folder = Path(asked.output).absolute().parent
        if not folder.is_dir():
            raise UsageError(f"`{asked.output}` cannot be written: there is no folder `{folder}`")


def _tell_what_is_left(shared: Shared, document: RunDocument) -> None:
    """Say how to go on with a run that is not done."""
    if document.run and document.exit in (5, 130, 143):
        more = " --budget …" if document.exit == 5 else ""
        shared.say(f"what is done is kept; go on with `parallelai runs resume {document.run}{more}`")


def _watched(carry: CarryOut, watch: Callable[[Sequence[Event]], None]) -> CarryOut:
    return dataclasses.replace(carry, on_events=watch)


def show(shared: Shared, asked: Carrying, root: Path, document: RunDocument) -> None:
    """Print a run's document, or write it where it was asked for."""
    name = asked.format or ("json" if shared.is_json else "terminal")
    context = context_of(shared, root)
    if asked.output is not None:
        if asked.format is None and not shared.is_json:
            name = "json" if asked.output.endswith(".json") else name
        plain = formats.RenderContext(root=root, read=context.read, limit=None)
        write_atomically(Path(asked.output), formats.render(name, document, plain))
        shared.say(f"written to {asked.output}")
    elif asked.events != "-":
        click.echo(formats.render(name, document, context).rstrip("\n"), color=context.color)


def context_of(shared: Shared, root: Path) -> formats.RenderContext:
    """What the terminal can show."""

    def read(path: str) -> str | None:
        try:
            return read_text(root, path)
        except (OSError, ParallelAIError):  # it went away since; what is shown comes from the document then
            return None

    return formats.context_for(
        sys.stdout,
        root=root,
        environ=os.environ,
        color=shared.color,
        read=read,
        limit=None if shared.is_verbose else formats.SHOWN,
    )


class _Lines:
    """Writes events until whoever reads them has gone, as `head` does; the run goes on without."""

    def __init__(self, file: TextIO) -> None:
        self._file: TextIO | None = file

    def write(self, event: Event) -> None:
        if self._file is None:
            return
        try:
            self._file.write(event_to_json(event) + "\n")
            self._file.flush()
        except BrokenPipeError:
            self._file = None


@contextlib.contextmanager
def _events(target: str | None) -> Iterator[Callable[[Event], None]]:
    """Write events where they were asked for."""
    if target is None:
        yield lambda event: None
        return
    with contextlib.ExitStack() as stack:
        file: TextIO = sys.stdout
        if target != "-":
            try:
                file = stack.enter_context(Path(target).open("w", encoding="utf-8"))
            except OSError as error:
                raise UsageError(f"`{target}` cannot be written: {error.strerror}") from None

        yield _Lines(file).write


@contextlib.contextmanager
def _signals(ai: AsyncParallelAI) -> Iterator[None]:
    """SIGINT and SIGTERM stop the run, gently at first; see `AsyncParallelAI.interrupt`."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()

    def stop(number: int) -> None:
        if not ai.interrupt(number) and task is not None:
            task.cancel()

    kinds = (signal.SIGINT, signal.SIGTERM)
    for kind in kinds:
        loop.add_signal_handler(kind, stop, int(kind))
    try:
        yield
    finally:
        for kind in kinds:
            loop.remove_signal_handler(kind)
