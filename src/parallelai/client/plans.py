"""`ai.plans`: check, show, draw, estimate and convert plans; nothing is carried out."""

from __future__ import annotations

import dataclasses
import functools
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from parallelai.client.jobs import Builder, plan_name
from parallelai.client.options import CarryOut
from parallelai.client.project import OpenProject
from parallelai.client.support import unsupported
from parallelai.errors import PlanError, Problem, UsageError
from parallelai.plan import draw, load
from parallelai.plan.check import check
from parallelai.plan.convert import to_yaml
from parallelai.plan.graph import TaskGraph
from parallelai.plan.model import Plan, Workstream, positions
from parallelai.plan.ownership import overlap
from parallelai.plan.schema import plan_schema
from parallelai.run import assembly, strategies
from parallelai.run.forecast import Forecast, forecast
from parallelai.run.job import Assignment, Job
from parallelai.run.steps import CheckStep


@dataclass(frozen=True, slots=True)
class Checked:
    """A plan without errors. `later` is what this version would refuse to carry out; `notes` are advice."""

    plan: Plan
    name: str
    tasks: int
    instances: int
    later: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Preview:
    """What would be carried out (`--dry-run`, `plan show`); `plan` is as it was written, without config."""

    job: Job
    plan: Plan

    @property
    def graph(self) -> TaskGraph:
        return self.job.graph


@dataclass(frozen=True, slots=True)
class Estimated:
    """A forecast, for how many slots it is, and the names of its phases."""

    forecast: Forecast
    parallel: int
    phase_names: Mapping[int, str] = field(default_factory=dict)


DRAWINGS: Mapping[str, Callable[[TaskGraph], str]] = {"mermaid": draw.mermaid, "dot": draw.dot}


class Plans:
    """Plans of a project, by the paths of their files."""

    def __init__(self, project: OpenProject) -> None:
        self._project = project

    def load(self, path: str | Path, variables: Iterable[str] = ()) -> Plan:
        """Load a plan; `variables` are set beside it. Raises `PlanError` with all problems."""
        project = self._project
        plan = load.load(Path(path), root=project.root, names=project.names(variables), tree=project.tree)
        _check_strategy(plan)
        return plan

    def check(self, path: str | Path, variables: Iterable[str] = ()) -> Checked:
        """Check all that can be checked before a run. Raises `PlanError` with all problems."""
        plan = self.load(path, variables := tuple(variables))
        problems = check(plan, tree=self._project.tree, names=self._project.names(variables))
        if problems:
            raise PlanError(problems)
        builder = Builder(self._project, self._project.registry(plan.engines), CarryOut(), self._project.tree)
        graph = builder.graph(plan)
        name = plan_name(Path(path), self._project.root)
        later = (*unsupported(plan), *_blocked(builder.assignments(plan, builder.graph(plan))))
        return Checked(plan, name, len(plan.works), len(graph), later, tuple(self._pairs(plan)))

    async def preview(self, path: str | Path, carry: CarryOut | None = None) -> Preview:
        """Say what would be carried out, by whom."""
        carry = carry or CarryOut()
        plan = self.load(path, carry.variables)
        registry = self._project.registry(plan.engines)
        try:
            builder = Builder(self._project, registry, carry, self._project.tree)
            return Preview(builder.job("preview", "execute", None, plan, builder.graph(plan)), plan)
        finally:
            await registry.aclose()

    def drawing(self, path: str | Path, form: str, *, width: int = 80, is_ascii: bool = False) -> str:
        """Draw a plan's graph as `mermaid`, `dot` or `terminal`. Raises `UsageError` for another form."""
        graph = self._graph(self.load(path))
        if form == "terminal":
            return draw.terminal(graph, width, is_ascii)
        if form not in DRAWINGS:
            raise UsageError(f"there is no drawing `{form}`", next="one of `terminal`, `mermaid`, `dot`")
        return DRAWINGS[form](graph)

    async def estimate(
        self,
        path: str | Path,
        parallel: int | None = None,
        variables: Mapping[str, Any] = MappingProxyType({}),
    ) -> Estimated:
        """Foretell how long a plan takes, from given estimates, else from what such tasks took before."""
        job = (await self.preview(path, CarryOut(parallel=parallel, variables=variables))).job
        registry = self._project.registry(job.plan.engines)
        job = dataclasses.replace(job, engines=registry.get)
        try:
            key_of = functools.partial(assembly.key_of, job)
            nodes = assembly.nodes_of(job, job.graph.instances, (CheckStep(),), key_of)
        finally:
            await registry.aclose()
        phases = dict(enumerate(job.graph.phases))
        found = forecast(
            nodes,
            job.graph.groups,
            job.parallel,
            self._samples(job),
            random=random.Random(0),  # noqa: S311 -- the same plan, the same forecast
            strategy=job.strategy,
            phase_parallel={n: phase.parallel for n, phase in phases.items() if phase.parallel is not None},
        )
        return Estimated(found, job.parallel, {n: phase.name for n, phase in phases.items()})

    def convert(self, path: str | Path) -> str:
        """Write a plan in canonical YAML."""
        return to_yaml(self.load(path))

    def schema(self) -> dict[str, Any]:
        """Give the JSON Schema of plan files."""
        return plan_schema()

    def _graph(self, plan: Plan) -> TaskGraph:
        builder = Builder(self._project, self._project.registry(plan.engines), CarryOut(), self._project.tree)
        return builder.graph(plan)

    def _samples(self, job: Job) -> dict[str, list[float]]:
        """What earlier tasks of the same kind and engine took, in seconds, by instance."""
        if not self._project.has_store:
            return {}
        journal = self._project.store.journal
        known: dict[tuple[str, str], list[float]] = {}
        samples: dict[str, list[float]] = {}
        for instance in job.graph.instances:
            members = job.assignment(instance).choice.members
            if instance.task.estimate is not None or not members:
                continue
            key = (instance.task.kind or "", members[0])
            if key not in known:
                known[key] = journal.history(*key)
            if known[key]:
                samples[instance.id] = known[key]
        return samples

    def _pairs(self, plan: Plan) -> list[str]:
        """Say which workstreams own the same files; a plan with such a pair is fine if they are in order."""
        notes = []
        works = plan.workstreams
        for number, a in enumerate(works):
            for b in works[number + 1 :]:
                notes += self._pair(a, b)
        return notes

    def _pair(self, a: Workstream, b: Workstream) -> list[str]:
        shared = overlap(a.owns, b.owns, self._project.tree.paths)
        if shared.existing:
            some = ", ".join(f"`{path}`" for path in shared.existing[:3])
            return [f"`{a.id}` and `{b.id}` own the same files ({some}), one after the other"]
        if shared.possible is not None:
            return [f"`{a.id}` and `{b.id}` could both make `{shared.possible}`"]
        return []


def _check_strategy(plan: Plan) -> None:
    """Raise `PlanError` for a strategy that is not installed, or not made so."""
    try:
        strategies.find(plan.strategy)
    except UsageError as error:
        where = positions(plan)
        line, column = where.of("strategy") or (None, None)
        raise PlanError([Problem(error.said, where.file or None, line, column, error.next)]) from None


def _blocked(assignments: Mapping[str, Assignment]) -> Iterator[Problem]:
    """The tasks that nobody here can do: carried out, they would end blocked."""
    for name, who in assignments.items():
        if who.error is not None:
            file, _, place = (who.error.where or "").partition(":")
            line, _, column = place.partition(":")
            said = f"task `{name}` would be blocked: {who.error.said}"
            is_placed = line.isdigit() and column.isdigit()
            yield Problem(
                said,
                file or None,
                int(line) if is_placed else None,
                int(column) if is_placed else None,
                who.error.next,
            )
