"""What a landing may spend on reviews and on conflicts: what is left of the budget of its run.

Each of them is a run of its own, of which the scheduler of the landing's run knows nothing. What they used is written
down in the journal of the landing's run, so that its later processes count it too.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Literal

from parallelai.client.project import OpenProject
from parallelai.client.recorded import beginning, created, last_budget
from parallelai.client.workstreams.landed_branches import KIND
from parallelai.engines.selection import money_limit
from parallelai.errors import NotFoundError
from parallelai.events import AttemptEnded, LandingAsked
from parallelai.plan.model import Budget, Plan
from parallelai.records import Outcome, RunDocument, Usage
from parallelai.run.report import Report
from parallelai.work.landing.records import Tell

What = Literal["review", "conflict"]
Settle = Callable[[What, RunDocument], None]
"""Takes what one of them came to, and so what it used."""
_TYPES = (AttemptEnded.type, LandingAsked.type)


class Purse:
    """The money and tokens of one run, as landings use them. `tell` writes down what they used."""

    def __init__(self, project: OpenProject, plan: Plan, run: str, tell: Tell) -> None:
        self._project = project
        self._plan = plan
        self._run = run
        self._tell = tell
        self._lock = asyncio.Lock()
        self._before: tuple[LandingAsked, ...] | None = None
        self._own: list[LandingAsked] = []

    @property
    def more(self) -> str:
        """What gives the run more."""
        with contextlib.suppress(NotFoundError):
            if created(self._project.store.journal, self._run).kind != KIND:
                return f"`parallelai runs resume {self._run} --budget 20usd`, say, gives it more"
        return "`budget` below `[limits]` in `parallelai.toml`, or in your own config, gives more; then land again"

    @property
    def unpriced(self) -> Literal["refuse", "allow"]:
        """Whether one may be asked of which nobody knows what it costs: a limit of money that somebody wrote says."""
        if self._written().usd is None:
            return "allow"
        plan, settings = self._plan.limits, self._project.settings.limits
        return plan.unpriced if "unpriced" in plan.model_fields_set else settings.unpriced

    @asynccontextmanager
    async def open(self) -> AsyncIterator[tuple[Budget, Settle]]:
        """Give what one may use, and what takes in what it used.

        Where the user wrote a limit, one goes after the other: two at once would both take what is left.
        """
        written = self._written()
        is_limited = written.usd is not None or written.tokens is not None
        async with self._lock if is_limited else contextlib.nullcontext():
            yield await asyncio.to_thread(self._left, written), self._settle

    def _written(self) -> Budget:
        """The limits that somebody wrote: of the run, else of the plan, else of the settings."""
        with contextlib.suppress(NotFoundError):  # of what is only tried there is no run
            given = last_budget(*beginning(self._project.store.journal, self._run))
            if given is not None:
                return given
        plan, settings = self._plan.limits.budget, self._project.settings.limits.budget
        return Budget(
            usd=plan.usd if plan.usd is not None else settings.usd,
            tokens=plan.tokens if plan.tokens is not None else settings.tokens,
        )

    def _left(self, written: Budget) -> Budget:
        used = self._used()
        return Budget(
            usd=max(money_limit(written.usd) - (used.usd or 0.0), 0.0),
            tokens=max(written.tokens - (used.tokens or 0), 0) if written.tokens is not None else None,
        )

    def _used(self) -> Usage:
        """What all of the run has used, by its journal; of landings what earlier processes did, and this one."""
        report = Report()
        with contextlib.suppress(NotFoundError):
            for event in self._project.store.journal.events(self._run, types=_TYPES):
                report.take(event)
        if self._before is None:  # nothing was asked here yet
            self._before = tuple(report.asked)
        report.asked = [*self._before, *self._own]
        return report.spent

    def _settle(self, what: What, document: RunDocument) -> None:
        rows = document.tasks
        engine, model = (
            ", ".join(sorted({str(getattr(row, key)) for row in rows if getattr(row, key)}))
            for key in ("engine", "model")
        )
        if not engine:  # nobody was asked: the budget did not allow it
            return
        is_ok = document.outcome is Outcome.OK
        asked = LandingAsked(what, engine, model or None, is_ok, document.seconds, document.usage)
        self._own.append(asked)
        self._tell(None, asked)
