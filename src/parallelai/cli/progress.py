"""The progress of a run, on stderr: a live line on a terminal, a few plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from parallelai.cli.aside import say_aside
from parallelai.cli.board import Standing, draw
from parallelai.cli.shared import Shared
from parallelai.cli.words import said_of, said_of_wait
from parallelai.events import (
    AttemptEnded,
    ConflictWaited,
    ConflictWaiting,
    EnginesTaken,
    Event,
    LeaveLapsed,
    RunCreated,
    RunEnded,
    RunStarted,
    Taken,
    TaskStep,
)
from parallelai.records import Reply
from parallelai.results.summary import number
from parallelai.run.report import WORK

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
        self._is_idle = False

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    @property
    def is_idle(self) -> bool:
        """Whether a run was gone on with in which nothing was left to do."""
        return self._is_idle

    def interject(self, text: str) -> None:
        """Say what the user asked for just now, also with `--quiet`; never behind the live line."""
        if self._live is not None:
            self._say(text)
        else:
            say_aside(text)

    def take(self, events: Sequence[Event]) -> None:
        """Show what happened."""
        for event in events:
            self._standing.take(event)
            if type(event.data) in WORK:
                self._is_idle = False
            self._tell(event)
        if self._began is not None and not self._is_live:
            self._tell_standing(self._began)

    def _tell(self, event: Event) -> None:
        match event.data:
            case RunCreated() as data:
                self._tell_beginning(event.run, data)
            case RunStarted() as data:
                self._is_idle = data.is_resume
                if data.is_resume:
                    self._say(f"run {event.run}, going on")
                self._start()
            case EnginesTaken(taken=taken, notes=notes):
                self._tell_engines(taken, notes)
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
                self._say(said_of_wait(event.task, data))
            case _:
                self._say(said_of(event.data))

    def _tell_beginning(self, run: str, data: RunCreated) -> None:
        engines = data.options.get("engines", {})
        whys = data.options.get("why", {})
        found = Counter((tuple(engines.get(task, ())), why) for task, why in whys.items())
        self._say(f"run {run}")
        self._tell_engines([Taken(who, why, count) for (who, why), count in found.items()], data.notes)

    def _tell_engines(self, taken: Sequence[Taken], notes: Sequence[str]) -> None:
        """Say who does how many tasks and why, and what else the user should know of the run."""
        is_one_more = len(taken) == _MOST_REASONS + 1  # a line that hides it would save none
        shown = taken if is_one_more else taken[:_MOST_REASONS]
        for one in shown:
            who = ", ".join(f"`{member}`" for member in one.engines)
            share = f", {number(one.tasks, 'task')}" if len(taken) > 1 else ""  # one alone does all of them
            self._say(f"engine: {who} ({one.why}){share}")
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
