"""What a workstream may change: what the plan says of it, within what its role allows."""

from __future__ import annotations

from collections.abc import Iterable

from parallelai.plan.model import Plan, Role, Workstream
from parallelai.plan.resolve import role_of
from parallelai.plan.roles import forbidden_by
from parallelai.work.streams.record import Rules


def rules_of(workstream: Workstream, role: Role | None, plan: Plan) -> Rules:
    """Merge a workstream's rules with its role's and the plan's; patterns are git's, from the root.

    A role only ever narrows: its `owns` is the most that its workstreams may own, so what lies outside of it is
    among what they avoid, but for what the plan shares among all. Its `avoids` and `reads` come on top of the
    workstream's own.
    """
    avoids = (*forbidden_by(role, plan.shared), *workstream.avoids)
    return Rules(
        owns=workstream.owns,
        reads=_once((*workstream.reads, *(role.reads if role is not None else ()))),
        avoids=_once(avoids),
        contracts=workstream.contracts,
        shared=plan.shared,
        protected=plan.protected,
    )


def rules_in(plan: Plan, name: str) -> Rules:
    """The rules of a workstream of a plan that holds its roles. Raises `KeyError` if it has no such workstream."""
    found = next((work for work in plan.workstreams if work.id == name), None)
    if found is None:
        raise KeyError(name)
    return rules_of(found, role_of(plan, found), plan)


def _once(patterns: Iterable[str]) -> tuple[str, ...]:
    """Each pattern once, the last time it stands: the last one that matches decides."""
    return tuple(reversed(dict.fromkeys(reversed(tuple(patterns)))))
