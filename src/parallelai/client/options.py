"""What may be asked of everything that carries out a plan: one set of words for library and command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from parallelai.events import Event
    from parallelai.plan.model import Budget, Choice
    from parallelai.records import Severity
    from parallelai.run.scheduling.strategies import Strategy

OnEvents = Callable[[Sequence["Event"]], None]


@dataclass(frozen=True, slots=True)
class CarryOut:
    """How a plan is to be carried out. None and empty mean: as plan and config say.

    Attributes:
        engine: who does the tasks that name nobody.
        model: a tier or a model's name, for the tasks that name none.
        parallel: how many attempts at once.
        budget: totals of the run; what is None in it has no limit.
        timeout_seconds: an attempt's time-out, for the tasks that give none.
        strategy: which ready task starts when.
        variables: `vars` of the plan, over what it gives.
        only: ids or tags; these tasks and what they depend on are carried out, the others left out.
        is_cacheable: stored replies may be used and are kept.
        is_resume: go on with the plan's latest run, where there is one.
        is_new: start a new run even then.
        is_trusted: what the project's own files name may run.
        fail_on: the severity from which a finding makes the exit code 1, None for never.
        is_applied: changes go into the user's checkout at the end.
        is_attended: somebody is there to answer what assistants ask.
        agreed: addresses that an engine's requests may go to from now on, by engine (`ConsentError`).
        on_events: is given the run's events, in order, once they are on disk.
    """

    engine: Choice | None = None
    model: str | None = None
    parallel: int | None = None
    budget: Budget | None = None
    timeout_seconds: float | None = None
    strategy: Strategy | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)
    only: tuple[str, ...] = ()
    is_cacheable: bool = True
    is_resume: bool = False
    is_new: bool = False
    is_trusted: bool = False
    fail_on: Severity | None = None
    is_applied: bool = False
    is_attended: bool = False
    agreed: Mapping[str, str] = field(default_factory=dict)
    on_events: OnEvents | None = None
