"""What `runs logs` prints: a line for each event of a run, and for what assistants do between two of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

import click

from parallelai.cli.listings import BOOKKEEPING, told_of_stream
from parallelai.cli.shared import Shared
from parallelai.cli.words import told
from parallelai.events import AttemptEnded, AttemptReserved, Event, RunStarted, event_to_json
from parallelai.results.printable import crop, visible

if TYPE_CHECKING:
    from parallelai.client import AsyncParallelAI

LONGEST = 400
"""Characters of a line that goes to no terminal; `--verbose` cuts none."""
_LEAST_WIDTH = 40
_POLL_SECONDS = 0.5


class Told(NamedTuple):
    """One line: when (UTC, ISO), of which task, what happened."""

    at: str
    task: str | None
    words: str


class Attempt:
    """What one attempt says and does, from the file of its stream, as far as that is written."""

    def __init__(self, task: str, path: Path) -> None:
        self._task = task
        self._path = path
        self._file: TextIO | None = None
        self._part = ""
        self._ahead: dict[str, Any] | None = None
        self._text = ""
        self._at = ""

    def until(self, at: str | None) -> Iterator[Told]:
        """Give what happened up to a time, each once; None is all that there is, and the end of what it says."""
        for event in self._events(at):
            yield from self._take(event)
        if at is None:
            yield from self._words()

    def written(self) -> Iterator[Told]:
        """Give all that there is by now; what it is still saying comes when that is whole."""
        for event in self._events(None):
            yield from self._take(event)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _take(self, event: dict[str, Any]) -> Iterator[Told]:
        kind, at = str(event.get("type")), str(event.get("at", ""))
        if kind in ("text", "stderr"):
            self._text, self._at = (self._text + str(event.get("delta", "")))[-LONGEST * 10 :], at
            return
        if kind in BOOKKEEPING:
            return
        yield from self._words()
        if kind == "reply":
            yield Told(at, self._task, "[reply that could not be used]")
        elif kind != "final":
            yield Told(at, self._task, told_of_stream(event))

    def _words(self) -> Iterator[Told]:
        """The last line of what it said since it did something."""
        last = self._text.strip().rpartition("\n")[2].strip()
        self._text = ""
        if last:
            yield Told(self._at, self._task, f"says: {last}")

    def _events(self, until: str | None) -> Iterator[dict[str, Any]]:
        while True:
            event = self._ahead if self._ahead is not None else self._next()
            self._ahead = None
            if event is None:
                return
            if until is not None and str(event.get("at", "")) > until:
                self._ahead = event
                return
            yield event

    def _next(self) -> dict[str, Any] | None:
        """The next whole line; None where there is none yet."""
        while True:
            try:
                self._file = self._file or self._path.open(encoding="utf-8", errors="replace")
            except OSError:  # it has printed nothing
                return None
            self._part += self._file.readline()
            if not self._part.endswith("\n"):
                return None
            line, self._part = self._part, ""
            try:
                event = json.loads(line)
            except ValueError:  # a killed process tore it
                continue
            if isinstance(event, dict):
                return event


class Story:
    """Tells a run's events in their order, and between them what its attempts say. `folder` is the run's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._attempts: dict[tuple[str | None, int | None], Attempt] = {}

    def take(self, event: Event) -> Iterator[Told]:
        """Tell an event, after what attempts did before it."""
        if isinstance(event.data, AttemptEnded | RunStarted):
            ended = [id for id in self._attempts if id == (event.task, event.attempt) or event.task is None]
            for id in ended:  # a killed process ended those of its attempts without a word
                attempt = self._attempts.pop(id)
                yield from attempt.until(None)
                attempt.close()
        yield from self._in_order(lambda attempt: attempt.until(event.at))
        if isinstance(event.data, AttemptReserved) and event.task is not None:
            path = self._folder / "attempts" / f"{event.seq}.jsonl"
            self._attempts[event.task, event.attempt] = Attempt(event.task, path)
        yield Told(event.at, event.task, told(event))

    def written(self) -> Iterator[Told]:
        """Tell what attempts did since."""
        return self._in_order(Attempt.written)

    def _in_order(self, of: Callable[[Attempt], Iterator[Told]]) -> Iterator[Told]:
        lines = [line for attempt in self._attempts.values() for line in of(attempt)]
        yield from sorted(lines, key=lambda line: line.at)

    def close(self) -> None:
        for attempt in self._attempts.values():
            attempt.close()


def print_logs(shared: Shared, run: str) -> int:
    """Print what happened in a run so far."""

    def work(ai: AsyncParallelAI) -> None:
        with _story(ai, run) as story:
            for event in ai.runs.events(run):
                _echo(shared, story.take(event))
            _echo(shared, story.written())

    shared.read(work)
    return 0


def follow(shared: Shared, run: str) -> int:
    """Print what happens in a run as it does, until it ends; with `--json` a line of JSON for each event."""

    async def work(ai: AsyncParallelAI) -> None:
        if shared.is_json:
            async for event in ai.runs.follow(run):
                click.echo(event_to_json(event))
            return
        with _story(ai, run) as story:
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(_watch(shared, story))
                async for event in ai.runs.follow(run):
                    _echo(shared, story.take(event))
                watching.cancel()

    shared.call(work)
    return 0


async def _watch(shared: Shared, story: Story) -> None:
    """Print what attempts do while no event comes."""
    while True:
        _echo(shared, story.written())
        await asyncio.sleep(_POLL_SECONDS)


@contextlib.contextmanager
def _story(ai: AsyncParallelAI, run: str) -> Iterator[Story]:
    story = Story(ai.project.state / "runs" / run)
    try:
        yield story
    finally:
        story.close()


def _echo(shared: Shared, lines: Iterable[Told]) -> None:
    width = max(shared.width, _LEAST_WIDTH) if sys.stdout.isatty() else LONGEST
    for one in lines:
        line = _shown(one)
        click.echo(line if shared.is_verbose else crop(line, width, ascii_only=shared.is_ascii))


def _shown(one: Told) -> str:
    """A line as it is printed: local time, task, words."""
    when = datetime.fromisoformat(one.at).astimezone().strftime("%H:%M:%S")
    return visible("  ".join(filter(None, (f"{when} {one.task or ''}".rstrip(), one.words))))
