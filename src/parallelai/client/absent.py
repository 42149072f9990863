"""Engines that something would be done by and that cannot be used here: told before a run finds it out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from parallelai.client.engines import Engines
from parallelai.client.project import OpenProject
from parallelai.engines.protocol import Availability
from parallelai.errors import Problem
from parallelai.plan.model import Plan, ReviewGate
from parallelai.run.job import Assignment

MOST_NAMED = 3
"""Tasks that a note names; of more it says how many."""


async def absent(project: OpenProject, plan: Plan, assignments: Mapping[str, Assignment]) -> list[Problem]:
    """Name each engine of a plan that cannot be used here, and the tasks that nobody could do then.

    Starts no client and asks no server.
    """
    members = {name: who.choice.members for name, who in assignments.items() if who.error is None}
    taken = {member for each in members.values() for member in each}
    missing = await Engines(project).absent(taken, plan.engines)
    stuck = [name for name, each in members.items() if each and missing.keys() >= set(each)]
    return [
        problem(name, why, [task for task in stuck if name in members[task]]) for name, why in missing.items()
    ]


def problem(name: str, why: Availability, tasks: Sequence[str] = ()) -> Problem:
    """Say that an engine cannot be used, what to do, and which tasks would end blocked."""
    said = f"engine `{name}` cannot be used here: {why.said}"
    if tasks:
        said += f", so {named(tasks)} would be blocked"
    return Problem(said, next=why.how)


def named(tasks: Sequence[str]) -> str:
    """The names of some tasks, and how many more there are."""
    more = f" and {len(tasks) - MOST_NAMED} more" if len(tasks) > MOST_NAMED else ""
    return ", ".join(f"`{task}`" for task in tasks[:MOST_NAMED]) + more


def asked_to_land(plan: Plan) -> set[str]:
    """The engines that landings ask: for reviews of what lands, and to settle conflicts."""
    if not plan.workstreams:
        return set()
    gates = (gate for gate in plan.gates.landing if isinstance(gate, ReviewGate))
    choices = [plan.landing.resolver, *(gate.engine or plan.defaults.engine for gate in gates)]
    return {member for choice in choices if choice is not None for member in choice.members}
