"""Gates on small real repositories: pytest as it is installed here, judged as a landing would."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from parallelai.events import EventData, GateEnded, GateStarted
from parallelai.git.repository import open_repository
from parallelai.plan import model
from parallelai.work.gates.judge import GateJudge, ReviewRunner
from parallelai.work.gates.trees import Settings, Trees, open_trees

PYTEST = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
WITH_REPORT = (*PYTEST, "--junitxml={report}")
ALONE = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONSAFEPATH": ""}
"""No plugin of this project's tests counts in the gates'."""


def python(code: str) -> tuple[str, ...]:
    """A command that runs a program in the tree."""
    return (sys.executable, "-c", code)


@dataclass
class Told:
    """What was told, in order."""

    events: list[tuple[str | None, EventData]] = field(default_factory=list)

    def __call__(self, name: str | None, event: EventData) -> None:
        self.events.append((name, event))

    def started(self) -> int:
        return sum(isinstance(event, GateStarted) for _, event in self.events)

    def ended(self) -> list[GateEnded]:
        return [event for _, event in self.events if isinstance(event, GateEnded)]


@dataclass
class Bench:
    judge: GateJudge
    trees: Trees
    told: Told


def workspace(**keys: Any) -> model.Workspace:
    return model.Workspace.model_validate({"env": ALONE, **keys})


@asynccontextmanager
async def trees_of(root: Path, state: Path, *, parallel: int = 2, **keys: Any) -> AsyncIterator[Trees]:
    settings = Settings("r-gates", state / "gates", workspace(**keys), parallel=parallel)
    async with open_trees(await open_repository(root), settings) as trees:
        yield trees


@asynccontextmanager
async def bench(
    root: Path,
    state: Path,
    *commands: Any,
    review: ReviewRunner | None = None,
    keys: dict[str, Any] | None = None,
    parallel: int = 2,
    **gates: Any,
) -> AsyncIterator[Bench]:
    """A judge of these gates; without a canary unless it is asked for."""
    wanted = model.Gates.model_validate({"landing": list(commands), "canary": "off", **gates})
    told = Told()
    async with trees_of(root, state, parallel=parallel, **(keys or {})) as trees:
        repository = await open_repository(root)
        judge = GateJudge(
            repository, wanted, trees, tell=told, logs=state / "gates", state=state, review=review
        )
        yield Bench(judge, trees, told)
