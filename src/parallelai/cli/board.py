"""Where a run stands, and the line that shows it: pure, so that it can be tested at every width."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct, field

from parallelai.events import AttemptEnded, Event, LandingAsked, TaskEnded, TaskExpanded
from parallelai.records import Outcome, Usage

_SPINNER, _ASCII_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏", "|/-\\"
_FRAMES_A_SECOND = 8
_BAR_CELLS = (8, 30)
"""The narrowest bar that is worth its room, and the widest that says more."""


class Standing(Struct):
    """Where a run stands, in numbers. Fed with events, in order."""

    total: int = 0
    done: int = 0
    kept: int = 0
    files: int = 0
    done_files: int = 0
    kept_files: int = 0
    findings: int = 0
    bad: int = 0
    usd: float = 0.0
    is_priced: bool = True
    _files_of: dict[str, int] = field(default_factory=dict)
    _ended: dict[str, TaskEnded] = field(default_factory=dict)

    def take(self, event: Event) -> None:
        """Learn one event."""
        match event.data:
            case TaskExpanded() as data:
                self._expand(data)
            case TaskEnded() as data if event.task is not None:
                before = self._ended.get(event.task)
                if before is not None:  # somebody had it tried again
                    self._count(event.task, before, -1)
                self._ended[event.task] = data
                self._count(event.task, data, 1)
            case AttemptEnded(usage=Usage() as usage, is_cached=False) | LandingAsked(usage=Usage() as usage):
                self.usd += usage.usd or 0.0
                self.is_priced = self.is_priced and usage.usd is not None

    def _expand(self, data: TaskExpanded) -> None:
        if not data.is_addition:
            self._files_of.clear()
            self.total = 0
        self.total += len(data.items)
        self._files_of.update({task: len(files) for task, files in data.files.items()})
        self.files = sum(self._files_of.values())

    def _count(self, task: str, ended: TaskEnded, sign: int) -> None:
        files, status = self._files_of.get(task, 0), ended.result.status
        self.done += sign
        self.done_files += sign * files
        self.findings += sign * ended.result.findings
        if ended.is_kept:
            self.kept += sign
            self.kept_files += sign * files
        if status not in (Outcome.OK, Outcome.SKIPPED):
            self.bad += sign

    @property
    def measure(self) -> tuple[str, int, int, int]:
        """What progress is measured in: its name, how many are done, kept from before, and there in all.

        Files say more than tasks, but only where every task has some.
        """
        if self.files and len(self._files_of) == self.total:
            return "file", self.done_files, self.kept_files, self.files
        return "task", self.done, self.kept, self.total

    def rate(self, elapsed: float) -> float:
        """How many of `measure` end in a second; 0 where nothing has ended yet."""
        _, done, kept, _ = self.measure
        return (done - kept) / elapsed if elapsed > 0 else 0.0

    def seconds_left(self, elapsed: float) -> float | None:
        """How long the rest takes at the same rate; None where there is no rate yet."""
        _, done, _, total = self.measure
        rate = self.rate(elapsed)
        return (total - done) / rate if rate else None

    def words(self, elapsed: float) -> list[str]:
        """What there is to say after `elapsed` seconds, the most important first."""
        return list(self._words(elapsed))

    def _words(self, elapsed: float) -> Iterator[str]:
        if self.files:
            yield f"{self.done_files:,}/{_number(self.files, 'file')}"
        yield f"{self.done:,}/{_number(self.total, 'task')}"
        if self.bad:
            yield f"{self.bad:,} not ok"
        left = self.seconds_left(elapsed)
        if left is not None:
            yield f"{clock(left)} left"
        if self.findings:
            yield _number(self.findings, "finding")
        if self.usd or not self.is_priced:
            yield f"${self.usd:.2f}" + ("" if self.is_priced else " + unknown")
        if rate := self.rate(elapsed):
            yield (
                f"{rate:,.0f} {self.measure[0]}s/s"
                if rate >= 1
                else f"{rate * 60:.1f} {self.measure[0]}s/min"
            )
        yield clock(elapsed)


def draw(standing: Standing, elapsed: float, width: int, *, is_ascii: bool = False) -> str:
    """Draw the one line that shows a run on a terminal of `width` cells, `elapsed` seconds after its start."""
    spinner = _ASCII_SPINNER if is_ascii else _SPINNER
    frame = spinner[int(elapsed * _FRAMES_A_SECOND) % len(spinner)]
    dot = ", " if is_ascii else " · "
    least, most = _BAR_CELLS
    text = ""
    for word in standing.words(elapsed):
        longer = f"{text}{dot}{word}" if text else word
        if len(longer) + 3 > width:  # what is less important has no room
            break
        text = longer
    cells = min(most, width - len(text) - 4)
    if cells < least:
        return f"{frame} {text}"[:width]
    _, done, _, total = standing.measure
    full = cells * min(done, total) // total if total else 0
    solid, empty = ("#", "-") if is_ascii else ("━", "╌")
    return f"{frame} {solid * full}{empty * (cells - full)} {text}"


def clock(seconds: float) -> str:
    """Write a time as a clock does: 0:07, 12:30, 1:05:00."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
