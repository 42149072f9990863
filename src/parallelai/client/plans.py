"""`ai.plans`: check, show, draw, estimate and convert plans; nothing is carried out."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import random
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from msgspec import Struct, field

from parallelai.client import programs
from parallelai.client.absent import absent, named
from parallelai.client.jobs import Builder
from parallelai.client.loading import load_plan
from parallelai.client.naming import plan_name
from parallelai.client.notes import of_ignored
from parallelai.client.only_by_leave import only_by_leave
from parallelai.client.options import CarryOut
from parallelai.client.past import Past
from parallelai.client.project import OpenProject
from parallelai.client.support import unsupported
from parallelai.errors import PlanError, Problem, UsageError
from parallelai.plan import draw, load
from parallelai.plan.advice import unmatched_generated, unmatched_sparse
from parallelai.plan.check import check
from parallelai.plan.convert import to_yaml, with_places
from parallelai.plan.files import read_text
from parallelai.plan.generators import Generators, MadeFiles
from parallelai.plan.graph import TaskGraph
from parallelai.plan.model import Plan, positions
from parallelai.plan.node_tests import MODULES
from parallelai.plan.pairs import Pair, pairs
from parallelai.plan.propose import Wave, waves, with_phases
from parallelai.plan.schema import plan_schema
from parallelai.plan.source import is_task_list
from parallelai.plan.starting import starting_plan
from parallelai.plan.values import shown
from parallelai.processes import find
from parallelai.run import assembly
from parallelai.run.forecast import Forecast, forecast
from parallelai.run.job import Assignment, Job
from parallelai.run.steps import CheckStep


class Checked(Struct, frozen=True):
    """A plan without errors. `later` is what this version would refuse to carry out; `notes` are advice.

    `generated` says what the commands of `landing: {generated: …}` make of the project's files.
    `pairs` says of each two workstreams why they are safe beside each other; `phases` are the plan's own, else
    those that would be proposed, and empty where there are no workstreams. `assignments` say who does each task.
    """

    plan: Plan
    name: str
    tasks: int
    instances: int
    later: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    pairs: tuple[Pair, ...] = ()
    phases: tuple[Wave, ...] = ()
    generated: tuple[MadeFiles, ...] = ()
    assignments: Mapping[str, Assignment] = field(default_factory=dict)


class Proposal(Struct, frozen=True):
    """What `plan propose` says: the plan with phases, or a first plan for the project; `yaml` is its text.

    `has_phases`: the plan had phases of its own, which the proposed ones leave out of account.
    """

    plan: Plan
    name: str
    yaml: str
    phases: tuple[Wave, ...]
    pairs: tuple[Pair, ...]
    has_phases: bool = False


class Preview(Struct, frozen=True):
    """What would be carried out (`--dry-run`, `plan show`); `plan` is as it was written, without config."""

    job: Job
    plan: Plan

    @property
    def graph(self) -> TaskGraph:
        return self.job.graph


class Estimated(Struct, frozen=True):
    """A forecast, for how many slots it is, and the names of its phases."""

    forecast: Forecast
    parallel: int
    phase_names: Mapping[int, str] = field(default_factory=dict)


_LONGEST_LOOK = 1_000_000
"""Bytes of a file that is looked into to learn how a project is tested."""
DRAWINGS: Mapping[str, Callable[[TaskGraph], str]] = {"mermaid": draw.mermaid, "dot": draw.dot}


class Plans:
    """Plans of a project, by the paths of their files."""

    def __init__(self, project: OpenProject) -> None:
        self._project = project

    def load(self, path: str | Path, variables: Iterable[str] = ()) -> Plan:
        """Load a plan; `variables` are set beside it. Raises `PlanError` with all problems."""
        return load_plan(self._project, Path(path), variables)

    def check(self, path: str | Path, variables: Iterable[str] = ()) -> Checked:
        """Check all that can be checked before a run. Raises `PlanError` with all problems."""
        plan = self.load(path, variables := tuple(variables))
        problems = check(plan, tree=self._project.tree, names=self._project.names(variables))
        if problems:
            raise PlanError(problems)
        builder = Builder(self._project, self._project.registry(plan.engines), CarryOut(), self._project.tree)
        graph = builder.graph(plan)
        assignments = builder.assignments(plan, graph)
        name = plan_name(Path(path), self._project.root)
        if unpriced := builder.unpriced(plan, assignments):
            raise PlanError([_at_budget(plan, unpriced)])
        later = (*unsupported(builder.with_roles(plan)), *_blocked(assignments))
        found = pairs(plan, self._project.tree.paths)
        notes = (
            *positions(plan).notes,
            *of_ignored(self._project),
            *map(str, unmatched_sparse(plan, self._project.tree.paths)),
            *map(str, unmatched_generated(plan, self._project.tree.paths)),
            *map(str, _missing_commands(plan)),
            *map(
                str,
                only_by_leave(builder.with_roles(plan), name, self._project.root, self._project.tree.paths),
            ),
            *(pair.said for pair in found if pair.example is not None),
        )
        own = tuple(Wave(phase.name, phase.tasks, phase.why) for phase in plan.phases)
        phases = (own or waves(plan, found)) if plan.workstreams else ()
        made = Generators(plan.landing.generated).made_of(self._project.tree.paths)
        return Checked(
            plan, name, len(plan.works), len(graph), later, notes, found, phases, made, assignments
        )

    async def absent(self, found: Checked | Preview) -> list[Problem]:
        """Say which engines of a plan cannot be used here, which gates cannot run, and what to do; starts no client."""
        assignments = found.assignments if isinstance(found, Checked) else found.job.assignments
        engines = await absent(self._project, found.plan, assignments)
        return [*engines, *programs.absent_of_gates(found.plan, self._project.root)]

    def propose(self, path: str | Path | None = None) -> Proposal:
        """Propose phases for a plan with workstreams, also one in which several own a file without an order.

        Without a path: propose workstreams for the project, from how its folders are cut. Raises `PlanError`
        for a plan that is wrong otherwise, and `UsageError` where there is nothing to propose.
        """
        project = self._project
        if path is None:
            sizes = _sizes(project.root, project.tree.paths)
            start = starting_plan(
                sizes,
                project.root.name,
                read=functools.partial(_text, project.root),
                has_modules=(project.root / MODULES).is_dir(),
                environment=programs.environment_with(project.root, "pytest"),
            )
            found = pairs(start.plan, project.tree.paths)
            return Proposal(start.plan, "", start.yaml, waves(start.plan, found), found)
        plan = load.load(
            Path(path), root=project.root, names=project.names(), tree=project.tree, allow_overlaps=True
        )
        if not plan.workstreams:
            raise UsageError(
                f"`{path}` has no workstreams to propose phases for",
                next="`parallelai plan propose` without a plan proposes workstreams",
            )
        bare = plan.model_copy(update={"phases": ()})
        found = pairs(bare, project.tree.paths)
        phases = waves(bare, found)
        text = to_yaml(with_phases(plan, phases))
        name = plan_name(Path(path), project.root)
        return Proposal(plan, name, text, phases, found, bool(plan.phases))

    async def preview(
        self, path: str | Path, carry: CarryOut | None = None, *, is_shown: bool = False
    ) -> Preview:
        """Say what would be carried out, by whom; `is_shown`: also of what a budget would refuse to carry out."""
        carry = carry or CarryOut()
        plan = self.load(path, carry.variables)
        registry = self._project.registry(plan.engines)
        try:
            builder = Builder(self._project, registry, carry, self._project.tree)
            name = plan_name(Path(path), self._project.root)
            graph = builder.graph(plan)
            return Preview(builder.job("preview", "execute", name, plan, graph, is_shown=is_shown), plan)
        finally:
            await registry.aclose()

    def drawing(self, plan: str | Path | Plan, form: str, *, width: int = 80, is_ascii: bool = False) -> str:
        """Draw a plan's graph as `mermaid`, `dot` or `terminal`. Raises `UsageError` for another form."""
        graph = self._graph(plan if isinstance(plan, Plan) else self.load(plan))
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
        """Foretell how long a plan takes: from what its tasks took before, given estimates, or what such tasks took."""
        carry = CarryOut(parallel=parallel, variables=variables)
        job = (await self.preview(path, carry, is_shown=True)).job
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

    def convert(self, plan: str | Path | Plan) -> str:
        """Write a plan, or a task list in Markdown, in canonical YAML. Raises `PlanError`.

        Beside each task of a list a comment says where it came from.
        """
        loaded = plan if isinstance(plan, Plan) else self.load(plan)
        where = positions(loaded)
        if where.file is None or not is_task_list(Path(where.file)):
            return to_yaml(loaded)
        return with_places(
            to_yaml(loaded), {work.id: where.where_task(work.id) or "" for work in loaded.works}
        )

    def schema(self) -> dict[str, Any]:
        """Give the JSON Schema of plan files."""
        return plan_schema()

    def _graph(self, plan: Plan) -> TaskGraph:
        builder = Builder(self._project, self._project.registry(plan.engines), CarryOut(), self._project.tree)
        return builder.graph(plan)

    def _samples(self, job: Job) -> dict[str, list[float]]:
        """What earlier tasks took, in seconds, by instance, where that is more to go by than the plan."""
        past = Past(self._project.store.journal if self._project.has_store else None, job.name)
        found = {
            instance.id: past.seconds(
                instance.task, next(iter(job.assignment(instance).choice.members), None)
            )
            for instance in job.graph.instances
        }
        return {name: seconds for name, seconds in found.items() if seconds}


def _sizes(root: Path, paths: Iterable[str]) -> dict[str, int]:
    """The sizes of files in bytes; what is gone, or no plain file, is left out."""
    found = {}
    for path in paths:
        with contextlib.suppress(OSError):
            status = os.lstat(root / path)
            if stat.S_ISREG(status.st_mode):
                found[path] = status.st_size
    return found


def _text(root: Path, path: str) -> str:
    """What a file says; nothing where it cannot be read, or is too large to look into."""
    try:
        return read_text(root, path, max_bytes=_LONGEST_LOOK)
    except (UsageError, OSError):
        return ""


def _missing_commands(plan: Plan) -> Iterator[Problem]:
    """Name the commands of `generated` that are not here; one with a slash lies in the project."""
    where = positions(plan)
    for index, one in enumerate(plan.landing.generated):
        program = one.command[0]
        if "/" not in program and find(program) is None:
            line, column = where.of("landing", "generated", index, "command") or (None, None)
            said = f"{shown(program)}, which makes {shown(one.files[0])}, is not installed here"
            advice = "install it, else such conflicts go to the resolver engine or to a person"
            yield Problem(said, where.file, line, column, advice)


def _at_budget(plan: Plan, problem: Problem) -> Problem:
    """The problem at the budget's place; without one where the settings have it."""
    written = positions(plan)
    line, column = (written.has("limits", "budget") and written.of("limits", "budget")) or (None, None)
    return replace(problem, file=written.file if line else None, line=line, column=column)


def _blocked(assignments: Mapping[str, Assignment]) -> Iterator[Problem]:
    """The tasks that nobody here can do: carried out, they would end blocked. Those of one reason are told together."""
    found: dict[tuple[str, str | None], dict[str, str]] = {}
    for name, who in assignments.items():
        if who.error is not None:
            found.setdefault((who.error.said, who.error.next), {})[name] = who.error.where or ""
    for (why, advice), places in found.items():
        file, _, place = next(iter(places.values())).partition(":")
        line, _, column = place.partition(":")
        is_placed = line.isdigit() and column.isdigit()
        noun = "task" if len(places) == 1 else "tasks"
        yield Problem(
            f"{noun} {named(tuple(places))} would be blocked: {why}",
            file or None,
            int(line) if is_placed else None,
            int(column) if is_placed else None,
            advice,
        )
