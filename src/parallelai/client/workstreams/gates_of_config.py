"""The gates of a config that nobody trusts: they do not run, and so nothing lands as if they had."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from parallelai.errors import UsageError

if TYPE_CHECKING:
    from parallelai.client.project import OpenProject
    from parallelai.plan.model import Plan
    from parallelai.plan.settings import Settings

TO_LAND = "`parallelai trust` lets it run; `--gate CMD` says what has to pass instead"
TO_RUN = "look at it, then `parallelai trust`, or say `--trust`"


def over_config(plan: Plan, settings: Settings) -> Plan:
    """A plan as it lands: config's word holds where it says nothing."""
    keys = ("workspace", "gates", "landing")
    given = {key: getattr(settings, key) for key in keys if key not in plan.model_fields_set}
    return plan.model_copy(update={**given, "engines": {**settings.engines, **plan.engines}})


def ignored_gate(project: OpenProject, plan: Plan, given: Sequence[str] = ()) -> str | None:
    """Say that the gate which should hold for a plan is the untrusted config's; None where it is not.

    `plan` may have its gates of its own file, or be over the settings; `given` are gates that somebody names instead.
    """
    is_plans = "gates" in plan.model_fields_set and plan.gates is not project.settings.gates
    if is_plans or given or not any(f"{key}.".startswith("gates.landing.") for key in project.untrusted):
        return None
    if not project.config.project_values["gates"]["landing"]:  # it asks for none
        return None
    return f"the gate of `{project.config.project_file}` is not trusted, so it would not run"


def refuse_ignored_gate(project: OpenProject, plan: Plan, given: Sequence[str] = (), *, next: str) -> None:
    """Refuse to land without the gate that config asks for. Raises `UsageError`; see `ignored_gate`."""
    said = ignored_gate(project, plan, given)
    if said is not None:
        raise UsageError(said, next=next)
