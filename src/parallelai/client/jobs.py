"""From a plan and what was asked to a job: who does what, how much at once, what is left out."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
from collections.abc import Iterable, Mapping
from typing import Any

from parallelai.client.absent import asked_to_land
from parallelai.client.consent import has_consent
from parallelai.client.options import CarryOut
from parallelai.client.past import Past
from parallelai.client.project import OpenProject
from parallelai.client.reach import refuse_cut_off
from parallelai.client.recorded import Kept
from parallelai.client.standing import track_record
from parallelai.client.support import unsupported, unsupported_settings
from parallelai.engines.protocol import TUNED, Request
from parallelai.engines.registry import Registry
from parallelai.engines.replay import recorded_engine
from parallelai.engines.selection import About, Source, money_limit, select
from parallelai.errors import ConfigError, PlanError, Problem, Unavailable, UsageError
from parallelai.plan import expand as expansion
from parallelai.plan.check import check
from parallelai.plan.files import Tree
from parallelai.plan.graph import Instance, TaskGraph
from parallelai.plan.load import is_checked
from parallelai.plan.model import Budget, Choice, EngineEntry, PhaseGate, Plan, Role, Task, positions
from parallelai.plan.resolve import model_for, role_of, workspace_of
from parallelai.plan.roles import ROLES_FOLDER, used, with_roles
from parallelai.plan.tiers import tier_for
from parallelai.plan.values import AUTO
from parallelai.records import ErrorRecord
from parallelai.run.job import Assignment, Job
from parallelai.run.preparation import output_of
from parallelai.run.scheduling import strategies

COMMANDS_PER_CORE = 2
API_PARALLEL = 50
ASSISTANTS_PARALLEL = 8
MEMORY_SHARE = 0.8
"""Of what is free now, how much assistants may take together."""
COMMANDS = Assignment(Choice.model_construct(rule="one", members=(), routes={}), (), "plan")
"""Who does what takes no engine: a gate of a phase, a landing of what is done."""
NOBODY = Choice(rule="one", members=("nobody",))


@dataclasses.dataclass(frozen=True, slots=True)
class Builder:
    """Builds the jobs of one call of the facade.

    `tree` are the files that patterns are matched against. `recorded` are the engines that `auto` chose in
    an earlier process of the run, by task: they are kept.
    """

    project: OpenProject
    registry: Registry
    options: CarryOut
    tree: Tree
    recorded: Mapping[str, Kept] = dataclasses.field(default_factory=dict)

    def checked(self, plan: Plan) -> None:
        """Refuse a plan with problems, or with what this version cannot carry out. Raises `PlanError`."""
        names = self.project.names(self.options.variables)
        later = [*self._untrusted(plan), *unsupported(self.with_roles(plan))]
        later += unsupported_settings(self.project.settings)
        known = (
            [] if is_checked(plan, names=names, tree=self.tree) else check(plan, tree=self.tree, names=names)
        )
        problems = known or later
        if problems:
            raise PlanError(problems)

    def with_roles(self, plan: Plan) -> Plan:
        """The plan with the roles of files and config that its tasks name. Raises `PlanError` for a broken file."""
        return with_roles(plan, self.project.roles, self.project.settings.defaults.role)

    def _untrusted(self, plan: Plan) -> list[Problem]:
        """Roles that only files of the project define, which nobody trusts: with them the plan means another thing."""
        named = used(plan, self.project.settings.defaults.role) - plan.roles.keys()
        return [
            Problem(
                f"the role `{name}` is a file of this project, and nobody said that it may be used",
                f"{ROLES_FOLDER}/{name}.yaml",
                next="look at it, then `parallelai trust`, or say `--trust`",
            )
            for name in sorted(named & self.project.untrusted_roles - self.project.roles.keys())
        ]

    def graph(self, plan: Plan) -> TaskGraph:
        """Expand a plan over the project's files, less what `only` leaves out."""
        graph = self._expand(plan)
        return graph.only(self.options.only) if self.options.only else graph

    def _expand(self, plan: Plan) -> TaskGraph:
        strategy, timeout = self.options.strategy, self.options.timeout_seconds
        if timeout is not None:
            plan = plan.model_copy(update={"defaults": plan.defaults.model_copy(update={"timeout": timeout})})
        return expansion.expand(
            self.with_roles(plan),
            self.tree,
            settings_defaults=self.project.settings.defaults,
            strategy=strategy.name if strategy is not None else None,
            templates=self.project.templates,
        )

    def job(
        self, run: str, kind: str, name: str | None, plan: Plan, graph: TaskGraph, *, is_shown: bool = False
    ) -> Job:
        """Decide the rest: assignments, limits, estimates. `is_shown`: nobody is about to carry it out."""
        asked = self.options
        whole = self._whole(plan)
        assignments = self.assignments(plan, graph)
        entries = self._entries(whole, assignments)
        hands = self._hands(assignments)
        budget = asked.budget or whole.limits.budget
        if not is_shown and (unpriced := self.unpriced(whole, assignments)):
            raise UsageError(unpriced.said, next=unpriced.next)
        return Job(
            run=run,
            kind=kind,
            plan=whole,
            name=name,
            graph=graph,
            root=self.project.root,
            logs=self.project.state / "runs" / run,
            assignments=assignments,
            engines=self.registry.get,
            entries=entries,
            templates=self.project.templates,
            strategy=asked.strategy or strategies.find(plan.strategy),
            parallel=asked.parallel or whole.limits.parallel or self._usual_parallel(entries, hands),
            budget=budget.model_copy(update={"usd": money_limit(budget.usd)}),
            concurrency={name: entry.concurrency for name, entry in entries.items() if entry.concurrency},
            variables={**whole.vars, **asked.variables},
            places=_places(plan),
            estimates=self._estimates(name, graph, assignments),
            is_cacheable=asked.is_cacheable,
            fail_on=asked.fail_on,
            has_workspaces=self.project.has_git,
            is_applied=asked.is_applied,
            is_attended=asked.is_attended,
            hands=hands,
            editing=frozenset(instance.id for instance in graph.instances if instance.task.edits),
            record=track_record(self.project) if self._has_models(assignments) else {},
            memory=self.project,
            memory_bytes=_free_memory() if hands else None,
            session_memory=self._session_memory(hands),
        )

    def unpriced(self, plan: Plan, assignments: Mapping[str, Assignment]) -> Problem | None:
        """Name an engine whose price is unknown, where a money budget cannot hold for that."""
        whole = self._whole(plan)
        limits = whole.limits
        if (self.options.budget or limits.budget).usd is None or limits.unpriced != "refuse":
            return None
        able = {member for who in assignments.values() if not who.error for member in who.choice.members}
        able |= asked_to_land(whole) - {AUTO}
        blank = Request(run="", task="", attempt=0, root=str(self.project.root), prompt="")
        for name in sorted(able):
            engine = self.registry.get(name)
            if engine.estimate(blank).usd is None:
                allow = "allow it: `limits: {unpriced: allow}`"
                return Problem(
                    f"a money budget cannot hold: what engine `{name}` costs is unknown",
                    next=f"give the engine a `price`, or {allow}"
                    if engine.capabilities.takes_price
                    else allow,
                )
        return None

    def _whole(self, plan: Plan) -> Plan:
        """The plan over the config: where it says nothing, the config's word holds."""
        settings = self.project.settings
        limits = settings.limits.model_copy(
            update={name: getattr(plan.limits, name) for name in plan.limits.model_fields_set}
        )
        merged = {
            "engines": {**settings.engines, **plan.engines},
            "roles": self.with_roles(plan).roles,
            "vars": {**settings.vars, **plan.vars},
            "limits": limits.model_copy(
                update={"budget": _first_budget(plan.limits.budget, settings.limits.budget)}
            ),
            "workspace": plan.workspace if "workspace" in plan.model_fields_set else settings.workspace,
            **{
                key: getattr(plan if key in plan.model_fields_set else settings, key)
                for key in ("permissions", "shared", "protected", "gates", "landing")
            },
        }
        # What stays as it was must not look as if the plan had said it.
        return plan.model_copy(
            update={key: value for key, value in merged.items() if value != getattr(plan, key)}
        )

    def _entries(self, plan: Plan, assignments: Mapping[str, Assignment]) -> dict[str, EngineEntry]:
        """The entries of all engines that somebody is given to."""
        named = {member for who in assignments.values() for member in who.choice.members}
        found = {name: entry for name in named if (entry := self._entry(plan, name)) is not None}
        # Who records another engine asks it: that one's limits hold, and its secrets are masked.
        others = {other for entry in found.values() if (other := recorded_engine(entry)) is not None}
        return found | {
            name: entry for name in others - named if (entry := self._entry(plan, name)) is not None
        }

    def _entry(self, plan: Plan, name: str) -> EngineEntry | None:
        """An engine's entry; a registered name without one has the defaults, a given engine what it was made with."""
        given = self.project.given.get(name)
        if given is None:
            return plan.engines.get(name) or EngineEntry(use=name)
        entry = getattr(given, "entry", None)  # engines of others have none
        return entry if isinstance(entry, EngineEntry) else None

    def grow(self, job: Job, arguments: Mapping[str, Any]) -> Job:
        """Give the job with one more task (`runs add`). Raises `PlanError` if it does not fit in."""
        plan, graph = self.with_task(job.plan, job.graph, arguments)
        plan = self.with_roles(plan)
        assignments = self.assignments(plan, graph)
        return dataclasses.replace(
            job,
            plan=plan,
            graph=graph,
            assignments=assignments,
            entries=self._entries(plan, assignments),
            hands=self._hands(assignments),
            editing=frozenset(instance.id for instance in graph.instances if instance.task.edits),
        )

    def with_task(self, plan: Plan, graph: TaskGraph, arguments: Mapping[str, Any]) -> tuple[Plan, TaskGraph]:
        """Add a task to a plan and its graph; what is there already stays as it is."""
        task = Task.model_validate(dict(arguments))
        plan = plan.model_copy(update={"tasks": (*plan.tasks, task)})
        self.checked(plan)
        whole = self._expand(plan)
        start = len(graph.instances)
        fresh = [instance for instance in whole.instances if instance.task.id == task.id]
        added = [dataclasses.replace(one, index=start + number) for number, one in enumerate(fresh)]
        groups = {**whole.groups, **graph.groups}
        return plan, TaskGraph((*graph.instances, *added), groups, graph.phases, graph.skipped, graph.seen)

    def batch_size(self, plan: Plan, graph: TaskGraph) -> int:
        """How many files the engines of a plan's first task look at in one request; 1 if one of them at most.

        Also 1 where a route picks the engine: it may go by files.
        """
        wanted, _ = self._wanted(plan, plan.tasks[0], graph.instances[0].task)
        if wanted is not None and wanted.rule == "route":
            return 1
        who = self.assignments(plan, graph)[plan.tasks[0].id]
        sizes = [self.registry.get(name).capabilities.batch for name in who.choice.members if not who.error]
        return min(sizes, default=1)

    def assignments(self, plan: Plan, graph: TaskGraph) -> dict[str, Assignment]:
        """Say who does each task; where a route goes by files, each instance."""
        plan = self.with_roles(plan)
        given: dict[str, Task] = {task.id: task for task in plan.works}
        whole = self._whole(plan)
        found: dict[str, Assignment] = {}
        same: dict[tuple[Any, ...], Assignment] = {}  # one for all that are alike: there may be thousands
        for instance in graph.instances:
            name = instance.task.id
            task = given.get(name, instance.task)
            if isinstance(task, PhaseGate):
                found[name] = COMMANDS
                continue
            wanted, source = self._wanted(plan, task, instance.task)
            is_routed = wanted is not None and wanted.rule == "route"
            if not is_routed and name in found:
                continue
            key = None if is_routed or name in self.recorded else _likeness(instance.task, wanted, source)
            who = same.get(key) if key is not None else None
            if who is None:
                who = self._assignment(whole, task, instance, wanted, source)
                if key is not None and who.error is None:
                    same[key] = who
            found[instance.id if is_routed else name] = who
        return found

    def _wanted(self, plan: Plan, task: Task, resolved: Task) -> tuple[Choice | None, Source]:
        """The engine that somebody named: the task or its role, then the argument, then plan and config."""
        if task.engine is not None:
            return resolved.engine, "plan"
        role = role_of(plan, task, self.project.settings.defaults)
        if role is not None and role.engine is not None:
            return resolved.engine, "plan"
        if self.options.engine is not None:
            return self.options.engine, "argument"
        if plan.defaults.engine is not None:
            return plan.defaults.engine, "plan"
        return self.project.settings.defaults.engine, "config"

    def _assignment(
        self,
        plan: Plan,
        task: Task,
        instance: Instance,
        wanted: Choice | None,
        source: Source,
    ) -> Assignment:
        kept = self.recorded.get(task.id) if wanted is None or wanted.members == (AUTO,) else None
        if kept is not None:
            wanted = Choice(rule="one" if len(kept.engines) == 1 else "vote", members=kept.engines)
        template = self.project.templates.get(instance.task.template or "")
        output, _ = output_of(instance.task, template)
        try:
            about = About(task.kind, task.tags, tuple(part.path for part in instance.files))
            chosen = select(
                wanted,
                output=output,
                registry=self.registry,
                consent=functools.partial(has_consent, self.project, self.registry),
                source=source,
                about=about,
            )
            self._refuse_untuned(role_of(plan, task, self.project.settings.defaults), chosen.choice)
            for name in filter(self._works_in_folder, chosen.choice.members):
                refuse_cut_off(name, self._entry(plan, name), workspace_of(plan, instance.task))
        except UsageError as error:
            raise PlanError([_problem(plan, task, error)]) from None
        except Unavailable as error:
            record = ErrorRecord("unavailable", error.said, positions(plan).where_task(task.id), error.next)
            choice = wanted or NOBODY
            nothing = (None,) * len(choice.members)
            return Assignment(choice, nothing, source if wanted is not None else "auto", record)
        blocked = self._without_git(plan, task, instance, chosen.choice)
        if blocked is not None:
            nothing = (None,) * len(chosen.choice.members)
            return Assignment(chosen.choice, nothing, chosen.why, blocked)
        models = tuple(self._model(plan, task, member) for member in chosen.choice.members)
        why = f"{kept.why}; as in the run so far" if kept is not None else chosen.why
        return Assignment(chosen.choice, models, why)

    def _refuse_untuned(self, role: Role | None, choice: Choice) -> None:
        """Refuse what a role sets and nobody of a choice heeds. Raises `UsageError`."""
        asked = [key for key in sorted(TUNED) if role is not None and getattr(role, key) is not None]
        if not asked:
            return
        heeded: set[str] = set()
        for name in choice.members:
            with contextlib.suppress(Unavailable):  # others of the choice may take over
                heeded |= self.registry.get(name).capabilities.tunes
        left = [key for key in asked if key not in heeded]
        if left:
            names = ", ".join(f"`{name}`" for name in choice.members)
            said = f"the role sets `{left[0]}`, which {names} cannot heed"
            raise UsageError(said, next="take it out of the role, or name another engine")

    def _without_git(self, plan: Plan, task: Task, instance: Instance, choice: Choice) -> ErrorRecord | None:
        """Outside git there are no folders to work in: what edits, and assistants, cannot be carried out."""
        if self.project.has_git:
            return None
        place = positions(plan).where_task(task.id)
        advice = self.project.how_to_have_git
        if instance.task.edits:
            said = "a task that edits needs a git repository, and the project is none"
            return ErrorRecord("unavailable", said, place, advice)
        wanted = workspace_of(plan, instance.task).needs
        if (wanted.ports or wanted.database or wanted.heavy) and any(
            map(self._works_in_folder, choice.members)
        ):
            said = "`needs` are given to folders, for which the project would have to be a git repository"
            return ErrorRecord("unavailable", said, place, advice)
        homeless = [name for name in choice.members if self._needs_folder(plan, name)]
        if len(homeless) < len(choice.members):  # others may do it
            return None
        said = f"`{homeless[0]}` works in a folder of its own, which needs a git repository"
        return ErrorRecord("unavailable", said, place, advice)

    def _needs_folder(self, plan: Plan, name: str) -> bool:
        entry = self._entry(plan, name)
        return (entry is None or entry.use != "command") and self._works_in_folder(name)

    def _works_in_folder(self, name: str) -> bool:
        try:
            return self.registry.get(name).capabilities.works_in_folder
        except Unavailable:  # others of the choice may take over
            return False

    def _model(self, plan: Plan, task: Task, engine: str) -> str | None:
        """The model's name: task > role > engine's entry > argument > defaults > template > the task's kind.

        An assistant that nobody named a model for takes its own.
        """
        defaults = self.project.settings.defaults
        if self.options.model is not None:
            plan = plan.model_copy(
                update={"defaults": plan.defaults.model_copy(update={"model": self.options.model})}
            )
        if engine in self.project.given and (entry := self._entry(plan, engine)) is not None:
            plan = plan.model_copy(update={"engines": {**plan.engines, engine: entry}})
        if not self._takes_text(engine):
            return model_for(plan, task, engine, defaults)
        template = self.project.templates.get(task.template or "")
        kind = task.kind or (template.kind if template is not None else None)
        return model_for(plan, task, engine, defaults, template) or tier_for(kind, task.description)

    def _usual_parallel(self, entries: Mapping[str, EngineEntry], hands: frozenset[str]) -> int:
        """How much at once where nobody said: two for each core where programs run here, else 50.

        Of assistants at most 8: how many fit into the memory is the scheduler's to see.
        """
        if any(entry.use in ("analyzers", "command") for entry in entries.values()):
            return COMMANDS_PER_CORE * (os.cpu_count() or 1)
        return ASSISTANTS_PARALLEL if hands else API_PARALLEL

    def _hands(self, assignments: Mapping[str, Assignment]) -> frozenset[str]:
        """The engines that work in folders of their own, by programs that take memory."""
        return frozenset(name for name in _named(assignments) if self._works_in_folder(name))

    def _has_models(self, assignments: Mapping[str, Assignment]) -> bool:
        """Whether somebody's findings are a matter of judgement."""
        has_text = any(self._takes_text(name) for name in _named(assignments))
        return has_text or bool(self._hands(assignments))

    def _takes_text(self, name: str) -> bool:
        try:
            return self.registry.get(name).capabilities.takes_text
        except Unavailable:
            return False

    def _session_memory(self, engines: Iterable[str]) -> dict[str, int]:
        known = ((name, self.project.session_memory(name)) for name in engines)
        return {name: taken for name, taken in known if taken is not None}

    def _estimates(
        self, name: str | None, graph: TaskGraph, assignments: Mapping[str, Assignment]
    ) -> dict[str, float]:
        """The median of what earlier tasks took, in seconds, where that is more to go by than the plan."""
        past = Past(self.project.store.journal if self.project.has_store else None, name)
        found = {
            task: sorted(past.seconds(graph.get(graph.items(task)[0]).task, engine))
            for task in graph.task_ids
            for engine in [
                next(iter(assignments[task].choice.members), None) if task in assignments else None
            ]
        }
        return {task: seconds[len(seconds) // 2] for task, seconds in found.items() if seconds}


def _likeness(task: Task, wanted: Choice | None, source: Source) -> tuple[Any, ...]:
    """All that the assignment of a task depends on, unless a route picks its engine."""
    output = task.output if task.output is None or isinstance(task.output, str) else "schema"
    asked = (wanted.rule, wanted.members) if wanted is not None else None
    network = task.workspace.network if task.workspace is not None else None
    return (asked, source, output, task.template, task.edits, task.model, task.role, network)


def _free_memory() -> int:
    """How much memory assistants may take together, in bytes."""
    import psutil  # few runs need it

    return int(psutil.virtual_memory().available * MEMORY_SHARE)


def _first_budget(*budgets: Budget) -> Budget:
    """Limit by limit the first that is given."""
    return Budget(
        usd=next((b.usd for b in budgets if b.usd is not None), None),
        tokens=next((b.tokens for b in budgets if b.tokens is not None), None),
        time=next((b.time for b in budgets if b.time is not None), None),
    )


def _places(plan: Plan) -> dict[str, str]:
    where = positions(plan)
    if where.root is None:  # it was not read from text
        return {}
    places = {task.id: where.where_task(task.id) for task in plan.works}
    return {name: place for name, place in places.items() if place is not None}


def _problem(plan: Plan, task: Task, error: UsageError) -> Problem:
    line, column = positions(plan).task(task.id) or (None, None)
    # A file that an engine's entry names may be what is wrong.
    said = f"{error.where}: {error.said}" if isinstance(error, ConfigError) and error.where else error.said
    return Problem(said, positions(plan).file, line, column, error.next)


def _named(assignments: Mapping[str, Assignment]) -> set[str]:
    """The engines that may be used; a phase's gate has none."""
    found = (who for who in assignments.values() if not who.error and who.choice is not NOBODY)
    return {member for who in found for member in who.choice.members}
