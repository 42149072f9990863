"""What a plan may say that this version cannot carry out yet: refused by name, never ignored (CONTRACTS §1)."""

from __future__ import annotations

from collections.abc import Iterator

from parallelai.errors import Problem
from parallelai.plan.model import EngineEntry, Plan, positions
from parallelai.plan.settings import Settings

LATER = "this version loads, checks and shows it, but cannot carry it out yet"


NEXT = "take it out to carry the plan out now; `plan check`, `show` and `graph` take it as it is"


def unsupported(plan: Plan) -> list[Problem]:
    """List what stands in the way of carrying a plan out, each with its place."""
    where = positions(plan)

    def problem(said: str, *path: str | int) -> Problem:
        line, column = where.of(*path) or (None, None)
        return Problem(f"{said}: {LATER}", where.file or None, line, column, NEXT)

    problems: list[Problem] = []
    for name, entry in plan.engines.items():
        problems += [problem(said, "engines", name) for said in _of_engine(name, entry)]
    for key in _of_plan(plan):
        problems.append(problem(f"`{key}`", key))
    return problems


def unsupported_settings(settings: Settings) -> list[Problem]:
    """List what config asks for that this version cannot carry out."""
    asked = ["`accounts`"] if "accounts" in settings.model_fields_set else []
    asked += [said for name, entry in settings.engines.items() for said in _of_engine(name, entry)]
    return [Problem(f"{said} in the config: {LATER}") for said in asked]


def _of_plan(plan: Plan) -> Iterator[str]:
    if "team" in plan.model_fields_set:
        yield "team"


def _of_engine(name: str, entry: EngineEntry) -> Iterator[str]:
    if entry.account is not None:
        yield f"`account` of engine `{name}`"
