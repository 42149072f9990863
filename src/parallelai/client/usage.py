"""`ai.usage(by)`: what all runs of the project used, from what their journals say of every attempt."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Literal, get_args

from msgspec import Struct, field

from parallelai.client.project import OpenProject
from parallelai.errors import UsageError
from parallelai.events import AttemptEnded, AttemptReserved, AttemptStarted, Event, LandingAsked
from parallelai.records import FREE, Usage

By = Literal["engine", "model", "task", "day", "month"]
BY: tuple[By, ...] = get_args(By)

NO_MODEL = "-"
"""The name of the row of engines that ask no model: commands, analysers."""
LANDING = "landing"
"""The row, by task, of what landings asked engines for: no task may have this name."""
_TYPES = (AttemptReserved.type, AttemptStarted.type, AttemptEnded.type, LandingAsked.type)


class UsageRow(Struct):
    """What the attempts of one engine, model, task, day or month used; failed ones count like all others.

    Sums are of what is known: `uncounted` attempts did not say their tokens, of `unpriced` ones nobody knows the
    cost, so that sums are lower bounds where these are not 0. `reused` replies were there already and cost
    nothing; they are no attempts. Nor did attempts cost anything that found nobody to ask. `subscription` attempts
    were paid for otherwise.
    """

    name: str
    attempts: int = 0
    failed: int = 0
    reused: int = 0
    input: int = 0
    cached: int = 0
    output: int = 0
    reasoning: int = 0
    uncounted: int = 0
    usd: float = 0.0
    unpriced: int = 0
    subscription: int = 0

    def add(self, ended: AttemptEnded, *, is_free: bool = False) -> None:
        """Count an attempt. `is_free`: its engine never costs anything, also where it was ended before it said so."""
        if ended.is_cached:
            self.reused += 1
            return
        self.attempts += 1
        self.failed += not ended.ok
        if _has_not_left(ended):
            return
        usage = ended.usage or (FREE if is_free else Usage())
        self.input += usage.input or 0
        self.cached += usage.cached or 0
        self.output += usage.output or 0
        self.reasoning += usage.reasoning or 0
        self.uncounted += usage.tokens is None
        if usage.basis == "subscription":
            self.subscription += 1
        elif usage.usd is None:
            self.unpriced += 1
        else:
            self.usd += usage.usd


def _has_not_left(ended: AttemptEnded) -> bool:
    """Whether nobody was asked: there was no program, no server or no key to ask with. That costs nothing."""
    error = ended.error
    return ended.usage is None and not ended.calls and error is not None and error.kind == "unavailable"


class UsageReport(Struct, frozen=True):
    """What was used, in rows. `dates` says by which clock days and months are told apart."""

    by: By
    dates: Literal["local", "utc"]
    rows: tuple[UsageRow, ...]
    total: UsageRow
    runs: int
    schema: Literal["parallelai/usage/1"] = "parallelai/usage/1"


class Fold(Struct):
    """Sums up the events of runs, one run after another."""

    by: By
    is_utc: bool
    rows: dict[str, UsageRow] = field(default_factory=dict)
    total: UsageRow = field(default_factory=lambda: UsageRow("total"))
    _models: dict[tuple[str | None, int | None], str | None] = field(default_factory=dict)
    _free: set[tuple[str | None, int | None]] = field(default_factory=set)

    def take(self, events: Iterable[Event]) -> None:
        """Add one run."""
        self._models.clear()
        self._free.clear()
        for event in events:
            match event.data:
                case AttemptReserved(tokens=0, usd=0.0):  # what it could cost at most
                    self._free.add((event.task, event.attempt))
                case AttemptStarted() as data:
                    self._models[event.task, event.attempt] = data.model
                case AttemptEnded() as data:
                    self._count(event, data)
                case LandingAsked() as data:
                    self._models[event.task, event.attempt] = data.model
                    self._count(event, AttemptEnded(data.engine, data.ok, data.seconds, data.usage))

    def _count(self, event: Event, ended: AttemptEnded) -> None:
        name, is_free = self._name(event, ended), self._is_free(event)
        self.rows.setdefault(name, UsageRow(name)).add(ended, is_free=is_free)
        self.total.add(ended, is_free=is_free)

    def _is_free(self, event: Event) -> bool:
        return (event.task, event.attempt) in self._free

    def _name(self, event: Event, ended: AttemptEnded) -> str:
        if self.by == "engine":
            return ended.engine
        if self.by == "model":
            answered = ended.reply.model if ended.reply is not None else None
            nobody = NO_MODEL if self._is_free(event) else "unknown"
            return answered or self._models.get((event.task, event.attempt)) or nobody
        if self.by == "task":
            return (event.task or LANDING).split("@")[0].split("#")[0]
        at = datetime.fromisoformat(event.at)
        at = at.astimezone(UTC if self.is_utc else None)
        return at.strftime("%Y-%m-%d" if self.by == "day" else "%Y-%m")


def read_usage(project: OpenProject, by: str = "engine", *, is_utc: bool = False) -> UsageReport:
    """Sum up what every run of the project used. Runs that were deleted count no more.

    Args:
        project: the open project.
        by: how to tell apart: engine, model, task (all instances together), day or month.
        is_utc: days and months of UTC, not of this machine's time zone.

    Raises:
        UsageError: `by` is none of these.
    """
    known: tuple[str, ...] = BY
    if by not in known:
        raise UsageError(f"usage by `{by}` is not known", next=f"write one of {', '.join(BY)}")
    kind: By = BY[known.index(by)]
    fold = Fold(kind, is_utc)
    journal = project.store.journal if project.has_store else None
    runs = journal.runs() if journal is not None else []
    if journal is not None:
        for row in runs:
            fold.take(journal.events(row.id, types=_TYPES))
    is_dated = kind in ("day", "month")
    rows = sorted(fold.rows.values(), key=lambda row: (0.0 if is_dated else -row.usd, row.name))
    return UsageReport(kind, "utc" if is_utc else "local", tuple(rows), fold.total, len(runs))
