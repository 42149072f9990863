"""How somebody asks to land: what goes over the plan's own words."""

from __future__ import annotations

import dataclasses
import shlex

from parallelai.errors import UsageError
from parallelai.plan import values
from parallelai.plan.model import Plan


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """How somebody asks to land. `gates` are commands as they are written; None of the rest is the plan's word.

    Raises `UsageError` for a gate that is no command, before anything is begun.
    """

    target: str | None = None
    gates: tuple[str, ...] = ()
    method: str | None = None
    is_pushed: bool = False
    is_red_allowed: bool = False
    engine: str | None = None

    def __post_init__(self) -> None:
        for text in self.gates:
            _command(text)

    def over(self, plan: Plan) -> Plan:
        """Give a plan with what was asked on the command line."""
        gates = plan.gates
        if self.gates:
            gates = gates.model_copy(update={"landing": tuple(map(_command, self.gates))})
        if self.is_red_allowed:
            gates = gates.model_copy(update={"allow_red_base": True})
        landing = plan.landing
        if self.method is not None:
            landing = landing.model_copy(update={"method": self.method})
        if self.is_pushed:
            landing = landing.model_copy(update={"push": True})
        return plan.model_copy(update={"gates": gates, "landing": landing})


def _command(text: str) -> tuple[str, ...]:
    try:
        return values.command(text)
    except values.Wrong as wrong:
        next = wrong.next
        if values.shell_operator(text) is not None:  # a plan has a list for that; here it is one text
            next = f"write `--gate {shlex.quote('sh -c ' + shlex.quote(text))}`"
        raise UsageError(f"`--gate`: {wrong.said}", next=next) from None
