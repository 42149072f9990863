"""`MultiEngine`: a choice of engines, as library users write it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from parallelai.engines.protocol import Engine
from parallelai.errors import UsageError

if TYPE_CHECKING:
    from parallelai.plan.model import Choice

RULES = ("spread", "fallback", "race", "vote")


class MultiEngine:
    """Several engines for the same tasks, by a rule. It is not an engine: the scheduler makes attempts of it.

    Args:
        members: engines, or their names.
        rule: `spread` (each task goes to the one with the most room), `fallback` (the next takes over where
            one cannot), `race` (the first good reply wins) or `vote` (all do it, and their findings agree).
    """

    def __init__(self, members: Sequence[Engine | str], *, rule: str = "spread") -> None:
        if rule not in RULES:
            known = ", ".join(f"`{name}`" for name in RULES)
            raise UsageError(f"there is no rule `{rule}` for several engines", next=f"one of {known}")
        if not members:
            raise UsageError("`MultiEngine` needs at least one engine", next='`MultiEngine(["a", "b"])`')
        self.rule = rule
        self.engines = tuple(member for member in members if not isinstance(member, str))
        self.names = tuple(member if isinstance(member, str) else member.name for member in members)

    @property
    def choice(self) -> Choice:
        """The choice, as plans have it."""
        from parallelai.plan.model import Choice  # heavy, and not needed to name engines

        return Choice.model_validate({self.rule: list(self.names)})
