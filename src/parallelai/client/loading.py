"""A plan's file, loaded for a project. Who only carries it out loads no more than this."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from parallelai.client.project import OpenProject
from parallelai.client.variables import refuse_unused
from parallelai.errors import PlanError, Problem, UsageError
from parallelai.plan import load
from parallelai.plan.model import Plan, positions
from parallelai.run.scheduling import strategies


def load_plan(project: OpenProject, path: Path, variables: Iterable[str] = ()) -> Plan:
    """Load a plan; `variables` are set beside it.

    Raises:
        PlanError: it has problems; all of them.
        UsageError: nothing uses one of the variables.
    """
    given = tuple(variables)
    plan = load.load(path, root=project.root, names=project.names(given), tree=project.tree)
    _check_strategy(plan)
    refuse_unused(project, plan, given)
    return plan


def _check_strategy(plan: Plan) -> None:
    """Raise `PlanError` for a strategy that is not installed, or not made so."""
    try:
        strategies.find(plan.strategy)
    except UsageError as error:
        where = positions(plan)
        line, column = where.of("strategy") or (None, None)
        raise PlanError([Problem(error.said, where.file or None, line, column, error.next)]) from None
