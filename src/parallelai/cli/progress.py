"""The progress of a run, on stderr: a live bar on a terminal, a few plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING

from parallelai.cli.shared import Shared
from parallelai.events import (
    AttemptEnded,
    BreakerOpened,
    BudgetReached,
    BudgetWarned,
    Event,
    OrphanEnded,
    RunCreated,
    RunEnded,
    RunPaused,
    RunStarted,
    TaskEnded,
    TaskExpanded,
)
from parallelai.records import Outcome, Reply

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

_MOST_REASONS = 4


@dataclass(slots=True)
class Standing:
    """Where a run stands, in the numbers that its progress shows. Pure: fed with events."""

    total: int = 0
    files: int = 0
    done: int = 0
    done_files: int = 0
    findings: int = 0
    usd: float = 0.0
    is_priced: bool = True
    outcomes: dict[Outcome, int] = field(default_factory=dict)
    _files_of: dict[str, int] = field(default_factory=dict)
    _ended: set[str] = field(default_factory=set)

    def take(self, event: Event) -> None:
        """Learn one event."""
        match event.data:
            case TaskExpanded() as data:
                if not data.is_addition:
                    self._files_of.clear()
                    self.total = 0
                self.total += len(data.items)
                self._files_of.update({task: len(files) for task, files in data.files.items()})
                self.files = sum(self._files_of.values())
            case TaskEnded() as data if event.task is not None:
                self._take_end(event.task, data)
            case AttemptEnded() as data if data.usage is not None and not data.is_cached:
                self.usd += data.usage.usd or 0.0
                self.is_priced = self.is_priced and data.usage.usd is not None

    def _take_end(self, task: str, data: TaskEnded) -> None:
        if task not in self._ended:
            self._ended.add(task)
            self.done += 1
            self.done_files += self._files_of.get(task, 0)
            self.findings += data.result.findings
        status = data.result.status
        self.outcomes[status] = self.outcomes.get(status, 0) + 1

    @property
    def bad(self) -> int:
        """How many tasks did not end well, skipped ones not counted."""
        return sum(n for outcome, n in self.outcomes.items() if outcome not in (Outcome.OK, Outcome.SKIPPED))

    def words(self) -> str:
        """What is beside the bar."""
        parts = [f"{self.done_files}/{self.files} file{'s' * (self.files != 1)}"] if self.files else []
        parts.append(f"{self.done}/{self.total} task{'s' * (self.total != 1)}")
        if self.findings:
            parts.append(f"{self.findings} finding{'s' * (self.findings != 1)}")
        if self.bad:
            parts.append(f"{self.bad} not ok")
        if self.usd or not self.is_priced:
            parts.append(f"${self.usd:.2f}" + ("" if self.is_priced else " + unknown"))
        return ", ".join(parts)


class Progress:
    """Shows a run while it is carried out. Use it as a context manager; feed it with `take`."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._standing = Standing()
        self._is_live = sys.stderr.isatty() and not shared.is_quiet and not shared.is_json
        self._bar: Bar | None = None
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
        if self._bar is not None:
            standing = self._standing
            done, total = (
                (standing.done_files, standing.files) if standing.files else (standing.done, standing.total)
            )
            self._bar.update(self._bar.task_ids[0], completed=done, total=total, words=standing.words())

    def _tell(self, event: Event) -> None:
        match event.data:
            case RunCreated() as data:
                self._tell_beginning(event.run, data)
            case RunStarted():
                self._start()
            case AttemptEnded(reply=Reply(notes=notes)):
                for note in notes:
                    self._note(note)
            case RunEnded():
                self._stop()
            case _:
                self._say(_said(event.data))

    def _tell_beginning(self, run: str, data: RunCreated) -> None:
        engines = data.options.get("engines", {})
        whys = data.options.get("why", {})
        taken = dict.fromkeys((tuple(engines.get(task, ())), why) for task, why in whys.items())
        self._say(f"run {run}")
        for members, why in list(taken)[:_MOST_REASONS]:
            who = ", ".join(f"`{member}`" for member in members)
            self._say(f"engine: {who} ({why})")
        if len(taken) > _MOST_REASONS:
            self._say(f"engine: and {len(taken) - _MOST_REASONS} other choices; `runs show --json` has all")
        for note in data.notes:
            self._note(note)

    def _note(self, note: str) -> None:
        """Say something once."""
        if note not in self._said:
            self._said.add(note)
            self._say(f"note: {note}")

    def _say(self, text: str | None) -> None:
        if text is None:
            return
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            self._shared.say(text)

    def _start(self) -> None:
        if not self._is_live or self._bar is not None:
            return
        from rich import progress  # only where there is something to see
        from rich.console import Console

        self._bar = progress.Progress(
            progress.SpinnerColumn(),
            progress.BarColumn(bar_width=30),
            progress.TextColumn("{task.fields[words]}"),
            progress.TimeElapsedColumn(),
            progress.TextColumn("left"),
            progress.TimeRemainingColumn(),
            console=Console(stderr=True, no_color=self._shared.color == "never"),
            transient=True,
        )
        self._bar.add_task("", total=None, words="")
        self._bar.start()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _said(data: object) -> str | None:
    """What the user is told of an event in words, None for nothing."""
    match data:
        case RunPaused():
            return f"paused: {data.why}"
        case BudgetWarned():
            return f"budget: {data.used:g} of {data.limit:g} {data.what} are used or reserved"
        case BudgetReached():
            return f"budget: the limit of {data.limit:g} {data.what} is reached; no new starts"
        case BreakerOpened():
            until = f" until {data.until}" if data.until else ""
            return f"`{data.key.engine}` waits{until}: {data.why}"
        case OrphanEnded():
            return f"ended a process that an earlier run left behind: {data.pid} {data.command}"
    return None
