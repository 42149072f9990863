"""The progress of a run, on stderr: a live line on a terminal, a few plain lines elsewhere."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from parallelai.cli.board import Standing, draw
from parallelai.cli.shared import Shared
from parallelai.events import (
    AttemptEnded,
    BreakerOpened,
    BudgetReached,
    BudgetWarned,
    ConflictWaited,
    ConflictWaiting,
    EnginesTaken,
    Event,
    LeaveLapsed,
    LimitReached,
    OrphanEnded,
    RunCreated,
    RunEnded,
    RunPaused,
    RunResumed,
    RunStarted,
    TaskStep,
    WorkstreamRevisited,
)
from parallelai.records import Reply
from parallelai.results.summary import seconds

if TYPE_CHECKING:
    from rich.live import Live
    from rich.text import Text

_MOST_REASONS = 4
_REFRESHES_A_SECOND = 8
PLAIN_SECONDS = 10.0
"""How often a line says where a run stands where there is no terminal."""


class Progress:
    """Shows a run while it is carried out. Use it as a context manager; feed it with `take`."""

    def __init__(
        self,
        shared: Shared,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shared = shared
        self._now = now
        self._standing = Standing()
        is_terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._is_live = is_terminal and not shared.is_quiet
        self._live: Live | None = None
        self._began: float | None = None
        self._told = 0.0
        self._said: set[str] = set()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def take(self, events: Sequence[Event]) -> None:
        """Show what happened."""
        for event in events:
            self._standing.take(event)
            self._tell(event)
        if self._began is not None and not self._is_live:
            self._tell_standing(self._began)

    def _tell(self, event: Event) -> None:
        match event.data:
            case RunCreated() as data:
                self._tell_beginning(event.run, data)
            case RunStarted() as data:
                if data.is_resume:
                    self._say(f"run {event.run}, going on")
                self._start()
            case EnginesTaken(taken=taken, notes=notes):
                self._tell_engines([(one.engines, one.why) for one in taken], notes)
            case AttemptEnded(reply=Reply(notes=notes)):
                for note in notes:
                    self._note(note)
            case RunEnded():
                self._stop()
            case LeaveLapsed() if event.task is not None:
                self._say(
                    f"`{event.task}` came to something else than leave was given for: that leave has lapsed"
                )
            case ConflictWaiting() | ConflictWaited() | TaskStep() as data if event.task is not None:
                self._say(_said_of_wait(event.task, data))
            case _:
                self._say(_said(event.data))

    def _tell_beginning(self, run: str, data: RunCreated) -> None:
        engines = data.options.get("engines", {})
        whys = data.options.get("why", {})
        taken = dict.fromkeys((tuple(engines.get(task, ())), why) for task, why in whys.items())
        self._say(f"run {run}")
        self._tell_engines(list(taken), data.notes)

    def _tell_engines(self, taken: Sequence[tuple[tuple[str, ...], str]], notes: Sequence[str]) -> None:
        """Say who does the tasks and why, and what else the user should know of the run."""
        is_one_more = len(taken) == _MOST_REASONS + 1  # a line that hides it would save none
        shown = taken if is_one_more else taken[:_MOST_REASONS]
        for members, why in shown:
            who = ", ".join(f"`{member}`" for member in members)
            self._say(f"engine: {who} ({why})")
        if len(shown) < len(taken):
            self._say(f"engine: and {len(taken) - len(shown)} other choices; `runs show --json` has all")
        for note in notes:
            self._note(note)

    def _tell_standing(self, began: float) -> None:
        """Say where the run stands, now and then."""
        now = self._now()
        if now - self._told >= PLAIN_SECONDS:
            self._told = now
            self._say(", ".join(self._standing.words(now - began)))

    def _note(self, note: str) -> None:
        """Say something once."""
        if note not in self._said:
            self._said.add(note)
            self._say(f"note: {note}")

    def _say(self, text: str | None) -> None:
        if text is None:
            return
        if self._live is not None:
            from parallelai.results.printable import harmless

            self._live.console.print(harmless(text), markup=False, highlight=False, soft_wrap=True)
        else:
            self._shared.say(text)

    def _start(self) -> None:
        if self._began is None:
            self._began = self._told = self._now()
        if not self._is_live or self._live is not None:
            return
        from rich.console import Console  # only where there is something to see
        from rich.live import Live

        console = Console(stderr=True, no_color=self._shared.color == "never" or None)
        # Drawn by a thread of its own, so that nothing that the run does makes it pause.
        self._live = Live(
            get_renderable=self._line,
            console=console,
            refresh_per_second=_REFRESHES_A_SECOND,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()

    def _line(self) -> Text:
        from rich.text import Text

        console = self._live.console if self._live is not None else None
        if console is None or self._began is None:
            return Text()
        is_ascii = not console.encoding.startswith("utf")
        line = draw(self._standing, self._now() - self._began, console.width, is_ascii=is_ascii)
        return Text(line, no_wrap=True, overflow="crop")

    def _stop(self) -> None:
        self._began = None
        if self._live is not None:
            self._live.stop()
            self._live = None


def _said_of_wait(name: str, data: ConflictWaiting | ConflictWaited | TaskStep) -> str | None:
    """What the user is told when a task begins to wait for others or for a person, and when it goes on."""
    if isinstance(data, TaskStep):
        waits = {
            "leave": f"leave: `parallelai work approve {shlex.quote(name)}`, or `reject`",
            "wait": "what others hold of this machine: see `parallelai work ledger`",
        }
        return f"`{name}` waits for {waits[data.step]}" if data.step in waits else None
    if isinstance(data, ConflictWaiting):
        from parallelai.work.conflicts.waiting import said_of  # the few runs that have conflicts need it

        return f"`{name}` waits for {_names(data.names)} to land: {said_of(data.where, data.why)}"
    ends = ((data.landed, "landed"), (data.left, "ended without landing"))
    said = [f"{_names(names)} {'has' if len(names) == 1 else 'have'} {how}" for names, how in ends if names]
    return f"`{name}` goes on: {', '.join(said) or 'what it does fits again'}"


def _names(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _amount(what: str, value: float) -> str:
    """Write an amount of a budget: `0.03 usd`, `5,000 tokens`, `2m 30s`."""
    if what == "time":
        return seconds(value)
    return f"{value:,.0f} tokens" if what == "tokens" else f"{value:.4g} {what}"


def _said(data: object) -> str | None:
    """What the user is told of an event in words, None for nothing."""
    match data:
        case RunPaused():
            return f"{data.why}; `parallelai runs resume` lets it go on"
        case RunResumed():
            return data.why
        case BudgetWarned():
            used, limit = _amount(data.what, data.used), _amount(data.what, data.limit)
            return f"budget: {used} of {limit} are used or reserved"
        case BudgetReached():
            return f"budget: the limit of {_amount(data.what, data.limit)} is reached; no new starts"
        case LimitReached():
            return f"waiting: {data.what} `{data.name}`: {data.at_work} of {data.limit} at work"
        case BreakerOpened():
            until = f" until {data.until}" if data.until else ""
            return f"`{data.key.engine}` waits{until}: {data.why}"
        case OrphanEnded():
            return f"ended a process that an earlier run left behind: {data.pid} {data.command}"
        case WorkstreamRevisited():
            how = "is begun anew" if data.is_anew else "lands again from its branch"
            return f"`{data.name}` {data.why}; it {how}"
    return None
