"""Carry something out for the command line: progress, signals, events, the result, what to do next."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import re
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

import click

from parallelai.cli.failures import Stopped, silence_stdout
from parallelai.cli.flags import Carrying
from parallelai.cli.progress import Progress
from parallelai.cli.shared import Shared
from parallelai.client import AsyncParallelAI
from parallelai.client.options import CarryOut
from parallelai.engines.analyzers.ruff import NOT_PYTHON
from parallelai.errors import ConsentError, ParallelAIError, UsageError
from parallelai.events import Event, event_to_json
from parallelai.plan.files import read_text
from parallelai.records import Outcome, RunDocument, TaskResult
from parallelai.results import formats
from parallelai.results.document import WAITS, is_pending, to_data, waiting
from parallelai.results.json import dump
from parallelai.results.printable import harmless, visible
from parallelai.results.summary import UNREAD, more_needed, reviewed
from parallelai.results.write import refuse_link_out, write_atomically

NOTHING = "nothing to review: of the files that you asked for, none has changed"
STDOUT = "-"
COMMANDS_MEANT = ("github", "json", "sarif", "rdjsonl")
"""Formats whose lines GitHub's runner cannot mistake for its commands, or is meant to obey."""
_MOST_NOTES = 10
_SUFFIXES = {"md": "markdown", "htm": "html", "xml": "junit"}

Call = Callable[[AsyncParallelAI, CarryOut], Awaitable[RunDocument | None]]


def carry_out(shared: Shared, asked: Carrying, call: Call) -> int:
    """Carry something out with progress, print its result, and give the exit code.

    `call` gives None where it had nothing to carry out; it has told the user then.
    """
    check_output(asked)

    async def work(ai: AsyncParallelAI) -> int:
        progress = Progress(shared)
        with _events(shared, asked.events) as write, progress, _signals(ai, progress.interject):

            def watch(events: Sequence[Event]) -> None:
                write(events)
                progress.take(events)

            carry = dataclasses.replace(asked.carry, on_events=watch)
            document = await _with_consent(shared, carry, lambda carry: call(ai, carry))
        if document is None:
            return 0
        show(shared, asked, ai.project.root, document)
        if progress.is_idle and not _was_stopped(document):
            shared.say("nothing was left to do")
        for line in landing_notes(document):
            shared.say(line)
        _tell_what_is_left(shared, document)
        return document.exit

    return shared.call(work, is_trusted=asked.carry.is_trusted)


async def _with_consent(
    shared: Shared, carry: CarryOut, call: Callable[[CarryOut], Awaitable[RunDocument | None]]
) -> RunDocument | None:
    """Carry out; on a terminal, ask whether requests may go to another address than the run's did so far.

    Raises:
        ConsentError: nobody is here to say so, or the user says no.
    """
    try:
        return await call(carry)
    except ConsentError as error:
        question = f"{error.said}. May they go there?"
        if not shared.is_interactive or not click.confirm(harmless(question), default=False, err=True):
            raise
        return await call(dataclasses.replace(carry, agreed=error.addresses))


def check_output(asked: Carrying) -> None:
    """Refuse what could not be printed or written in the end, before anything is done and paid."""
    if asked.format is not None:
        formats.find(asked.format)
    if asked.output is not None:
        path = Path(asked.output)
        if path.is_dir():
            raise UsageError(f"`{path}` is a folder", next="name a file in it")
        if not path.absolute().parent.is_dir():
            raise UsageError(f"the folder of `{path}` does not exist", next=f"make `{path.parent}` first")


def _tell_what_is_left(shared: Shared, document: RunDocument) -> None:
    """Say how to go on with a run that is not done, or that read nothing, or with changes that are not applied."""
    is_foreign = any(note.why == NOT_PYTHON for note in document.files.skipped)
    if is_foreign and not document.files.failed and reviewed(document) == [UNREAD]:
        shared.say(
            "to have such files read, name an engine: `--engine NAME`; `parallelai engines list` shows all"
        )
    if any(_is_left(task) for task in document.tasks):
        shared.say(
            "look at what was changed with `parallelai runs diff`, take it with `parallelai runs apply`"
        )
    pending = waiting(document.tasks)
    if pending is not None:
        shared.insist(visible(pending))
    is_left = document.exit in (3, 4, 5, 130, 143) and not _came_too_late(document)
    if document.run and is_left and not _waits_for_the_checkout(document):
        if document.exit == 5 and (needed := more_needed(document)):
            shared.say(f"the budget did not last: {needed}")
        if document.files.failed and all(task.status is Outcome.OK for task in document.tasks):
            shared.say(
                "all else is done; once the failed files are put right, the same command looks at them"
            )
            return
        more = " --budget …" if document.exit == 5 else ""
        is_kept = any(task.status is Outcome.OK for task in document.tasks)
        done = "what is done is kept; " if is_kept else ""
        shared.say(f"{done}go on with `parallelai runs resume {document.run}{more}`")


def landing_notes(document: RunDocument) -> list[str]:
    """What a person should know of what landed, a line for each note with those that it concerns; a few at most."""
    about: dict[str, list[str]] = {}
    for task in document.tasks:
        landed = (task.workstream or {}).get("landed") or {}
        for note in landed.get("notes") or ():
            if note.startswith(WAITS):  # it is told for all of them, at the end
                continue
            about.setdefault(note, []).append(task.id)
    notes = [f"{', '.join(names)}: {note}" for note, names in about.items()]
    lines = (
        ["notes of what landed:", *(f"  {visible(note)}" for note in notes[:_MOST_NOTES])] if notes else []
    )
    if len(notes) > _MOST_NOTES:
        lines.append(f"  and {len(notes) - _MOST_NOTES} more: `parallelai runs show {document.run} --json`")
    if any(" settled by " in note for note in about):
        lines.append("  why: `parallelai work decisions`")
    return lines


def _is_left(task: TaskResult) -> bool:
    """Whether a task made a change that can be taken, and is nowhere but with its run."""
    change = task.change
    is_good = task.status is Outcome.OK and task.workstream is None
    return is_good and change is not None and bool(change.files) and not change.applied


def _was_stopped(document: RunDocument) -> bool:
    """Whether something was left that could not even start: a budget or an interruption was before it."""
    return any(task.status in (Outcome.OVER_BUDGET, Outcome.CANCELLED) for task in document.tasks)


def _came_too_late(document: RunDocument) -> bool:
    """Whether a run was interrupted in which nothing was left to do."""
    is_done = bool(document.tasks) and all(task.status is Outcome.OK for task in document.tasks)
    return document.exit in (130, 143) and is_done and not document.files.failed


def _waits_for_the_checkout(document: RunDocument) -> bool:
    """Whether nothing is left but a checkout that could not follow: no run can do anything about that."""
    return any(map(is_pending, document.tasks)) and all(
        task.status in (Outcome.OK, Outcome.SKIPPED) for task in document.tasks
    )


def show(shared: Shared, asked: Carrying, root: Path, document: RunDocument) -> None:
    """Print a run's document, or write it where it was asked for; with `--json` it is on stdout in any case."""
    context = context_of(shared, root)
    if asked.output is not None:
        plain = formats.RenderContext(root=root, read=context.read, limit=None)
        write_atomically(Path(asked.output), formats.render(_file_format(shared, asked), document, plain))
        shared.say(f"written to {asked.output}")
    if asked.events == STDOUT:
        if shared.is_json:  # after lines of JSON, one more
            click.echo(dump(to_data(document), indent=None))
    elif shared.is_json and asked.output is not None:
        click.echo(dump(to_data(document)), nl=False)
    elif asked.output is None:
        name = asked.format or ("json" if shared.is_json else "terminal")
        is_nothing = name == "terminal" and not document.run
        text = _nothing(document) if is_nothing else formats.render(name, document, context).rstrip("\n")
        if name not in COMMANDS_MEANT and os.environ.get("GITHUB_ACTIONS"):
            text = without_commands(text)
        click.echo(text, color=context.color)


def _nothing(document: RunDocument) -> str:
    return f"{document.plan}: nothing to do, all of it is done" if document.plan is not None else NOTHING


def _file_format(shared: Shared, asked: Carrying) -> str:
    """The format that was asked for, else the one that the file is named after."""
    suffix = Path(asked.output or "").suffix.removeprefix(".").lower()
    suffix = _SUFFIXES.get(suffix, suffix)
    if asked.format is not None:
        return asked.format
    if suffix in formats.names():
        return suffix
    return "json" if shared.is_json else "terminal"


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


def without_commands(text: str) -> str:
    """Break up what GitHub's runner would obey: what is reviewed may hold its workflow commands."""
    lines = (re.sub(r"^(\s*):(:)", r"\1:\u200b\2", line) for line in text.split("\n"))
    return "\n".join(lines).replace("##[", "##\u200b[")


class _Lines:
    """Writes events until they cannot be written any more; the run goes on without."""

    def __init__(self, shared: Shared, target: str, file: TextIO) -> None:
        self._shared = shared
        self._target = target
        self._file: TextIO | None = file

    def write(self, events: Sequence[Event]) -> None:
        if self._file is None:
            return
        try:
            for event in events:
                self._file.write(event_to_json(event))  # it may be megabytes: no copy for the line end's sake
                self._file.write("\n")
            self._file.flush()
        except OSError as error:
            self._file = None
            if self._target == STDOUT:
                silence_stdout()
            if not isinstance(error, BrokenPipeError):  # whoever reads has gone on purpose, as `head` does
                self._shared.say(f"note: events are written no more: `{self._target}`: {error.strerror}")


@contextlib.contextmanager
def _events(shared: Shared, target: str | None) -> Iterator[Callable[[Sequence[Event]], None]]:
    """Write events where they were asked for."""
    if target is None:
        yield lambda events: None
    elif target == STDOUT:
        yield _Lines(shared, target, sys.stdout).write
    else:
        refuse_link_out(Path(target))
        try:
            file = Path(target).open("w", encoding="utf-8")  # noqa: SIM115 -- closed below, come what may
        except OSError as error:
            raise UsageError(f"`{target}` cannot be written: {error.strerror}") from None
        try:
            yield _Lines(shared, target, file).write
        finally:
            with contextlib.suppress(OSError):  # what could not be written was told
                file.close()


@contextlib.contextmanager
def _signals(ai: AsyncParallelAI, say: Callable[[str], None]) -> Iterator[None]:
    """SIGINT and SIGTERM stop the run, gently at first, and `say` tells so; see `AsyncParallelAI.interrupt`.

    Raises:
        Stopped: one of them came while no run was being carried out.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    stopped: list[int] = []
    stopping: list[int] = []

    def stop(number: int) -> None:
        again = "Ctrl-C again" if number == signal.SIGINT else "a second signal"
        told = (
            "ending what runs now" if stopping else f"stopping: what runs may end first; {again} ends it now"
        )
        say(told)
        stopping.append(number)
        if not ai.interrupt(number) and task is not None:
            stopped.append(number)
            task.cancel()

    kinds = (signal.SIGINT, signal.SIGTERM)
    for kind in kinds:
        loop.add_signal_handler(kind, stop, int(kind))
    try:
        yield
    except asyncio.CancelledError:
        if stopped:
            raise Stopped(stopped[0]) from None
        raise
    finally:
        for kind in kinds:
            loop.remove_signal_handler(kind)
