"""`AsyncParallelAI`: what can be done with ParallelAI, as awaitable calls."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import parallelai
from parallelai.client import batches, recorded
from parallelai.client.arguments import (
    budget_of,
    choice_of,
    count_of,
    seconds_of,
    severity_of,
    strategy_of,
    words_of,
)
from parallelai.client.askers import ports_for
from parallelai.client.changes import RunChanges
from parallelai.client.consent import Offer, offer
from parallelai.client.engines import Engines, require
from parallelai.client.folders import workspaces_for
from parallelai.client.jobs import Builder, plan_name
from parallelai.client.landings import Landings
from parallelai.client.notes import notes_of
from parallelai.client.options import CarryOut, OnEvents
from parallelai.client.plans import Plans
from parallelai.client.project import OpenProject
from parallelai.client.reviews import ReviewOptions, base_of, chosen_files, nothing_to_do, review_name
from parallelai.client.rooms import places_of, room_for, steps_of, taken_up
from parallelai.client.runs import Runs
from parallelai.client.secrets import masker_of
from parallelai.client.work import Work
from parallelai.engines.protocol import Engine
from parallelai.errors import BusyError, UsageError
from parallelai.events import Event, RunCreated
from parallelai.plan import load
from parallelai.plan.files import Tree
from parallelai.plan.graph import TaskGraph
from parallelai.plan.model import Budget, Choice, Plan, Task, positions
from parallelai.records import RunDocument, Severity, new_run_id
from parallelai.results import baseline
from parallelai.run import resume
from parallelai.run.asking import Questions
from parallelai.run.collector import collecting_seldom
from parallelai.run.job import Job
from parallelai.run.report import Report
from parallelai.run.runner import Runner
from parallelai.run.strategies import Strategy
from parallelai.work.opening import Ports
from parallelai.work.scratch.workspaces import is_confined
from parallelai.work.streams.worktrees import Started


class AsyncParallelAI:
    """Runs many assistants at once over one code base.

    Args:
        project: the project's folder; by default the one that the current folder is in.
        config: settings over those of files and environment, nested as in `parallelai.toml`.
        engines: engines of your own, used by their names.
        trust: what the project's own config names may run.

    Use it as an async context manager, or call `aclose` when done.
    """

    def __init__(
        self,
        project: str | Path | None = None,
        *,
        config: Mapping[str, Any] | None = None,
        engines: Iterable[Engine] = (),
        trust: bool = False,
    ) -> None:
        self.project = OpenProject(
            Path.cwd(),
            Path(project) if project is not None else None,
            overrides=config,
            engines=engines,
            is_trusted=trust,
        )
        self.runs = Runs(self.project, self._resume)
        self.changes = RunChanges(self.project, self.runs)
        self.plans = Plans(self.project)
        self.engines = Engines(self.project)
        self.work = Work(
            self.project, self.runs, self.carry_out_plan, self._start, Landings(self.project, self.runs)
        )
        self._runners: set[Runner] = set()

    async def __aenter__(self) -> AsyncParallelAI:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Let go of everything."""
        self.project.close()

    def interrupt(self, signal: int) -> bool:
        """Stop what is being carried out; see `Runner.interrupt`. False if nothing is."""
        for runner in list(self._runners):
            runner.interrupt(signal)
        return bool(self._runners)

    async def review(
        self,
        patterns: str | Sequence[str] = (),
        *,
        engine: str | Choice | Sequence[str] | Any = None,
        model: str | None = None,
        parallel: int | None = None,
        budget: str | Budget | None = None,
        timeout: float | str | None = None,
        since: str | None = None,
        staged: bool = False,
        template: str = "code-review",
        checklist: Sequence[str] = (),
        baseline: str | Path | None = None,
        fail_on: str | Severity | None = None,
        cache: bool = True,
        apply: bool = False,
        resume: bool = False,
        on_events: OnEvents | None = None,
    ) -> RunDocument:
        """Review files, and give one ranked list of findings.

        Args:
            patterns: which files, by git's rules, from the current folder; none is the whole project.
            engine: who reviews; several are a vote. By default see DESIGN §5, "Consent".
            model: a tier or a model's name.
            parallel: how much at once.
            budget: such as `10usd,5Mtok,4h`.
            timeout: of an attempt, in seconds or as `30m`.
            since: only what changed since this git revision.
            staged: only what is staged in git.
            template: the task template.
            checklist: what to look for.
            baseline: a file of accepted findings.
            fail_on: the severity from which a finding makes `exit` 1.
            cache: stored replies may be used.
            apply: put changes into the user's checkout at the end.
            resume: go on with the latest review of the same.
            on_events: is given events as they happen.

        Raises:
            UsageError: the patterns match nothing, or something else cannot be done as asked.
        """
        options = ReviewOptions(
            words_of(patterns),
            since,
            staged,
            template,
            tuple(checklist),
            Path(baseline) if baseline is not None else None,
            base_of(self.project),
        )
        carry = self._carry(
            engine=engine,
            model=model,
            parallel=parallel,
            budget=budget,
            timeout=timeout,
            fail_on=fail_on,
            is_cacheable=cache,
            is_applied=apply,
            is_resume=resume,
            on_events=on_events,
        )
        return await self.carry_out_review(options, carry)

    async def execute(
        self,
        plan: str | Path | Plan | Mapping[str, Any] | None = None,
        *,
        tasks: Iterable[Task | Mapping[str, Any]] | None = None,
        strategy: str | Strategy | None = None,
        engine: str | Choice | Sequence[str] | Any = None,
        model: str | None = None,
        parallel: int | None = None,
        budget: str | Budget | None = None,
        timeout: float | str | None = None,
        variables: Mapping[str, Any] | None = None,
        only: Sequence[str] = (),
        fail_on: str | Severity | None = None,
        cache: bool = True,
        apply: bool = False,
        resume: bool = False,
        new: bool = False,
        on_events: OnEvents | None = None,
    ) -> RunDocument:
        """Carry a plan out: a file, a `Plan`, plain data, or just tasks.

        Args:
            plan: the plan, or the path of its file.
            tasks: the tasks, instead of a plan.
            strategy: `dag`, `parallel`, `batch:N`, `pipeline`, or an object.
            engine: who does the tasks that name nobody.
            variables: the plan's `vars`, over what it gives.
            only: ids or tags; these tasks and what they depend on.
            resume: go on with the plan's latest run, where there is one.
            new: start a new run even then.

        The other arguments are those of `review`.

        Raises:
            PlanError: all that is wrong with the plan.
        """
        carry = self._carry(
            engine=engine,
            model=model,
            parallel=parallel,
            budget=budget,
            timeout=timeout,
            strategy=strategy_of(strategy),
            variables=dict(variables or {}),
            only=tuple(only),
            fail_on=fail_on,
            is_cacheable=cache,
            is_applied=apply,
            is_resume=resume,
            is_new=new,
            on_events=on_events,
        )
        with collecting_seldom():
            loaded, name = self._load(plan, tasks, carry.variables)
        return await self.carry_out_plan(loaded, name, carry)

    # -- what the command line calls, with the options as objects

    async def carry_out_review(self, options: ReviewOptions, carry: CarryOut) -> RunDocument:
        """Carry a review out; see `review`."""
        tree = chosen_files(self.project, options)
        if not tree.paths:
            return nothing_to_do()
        async with self._builder(carry, {}, tree=tree) as builder:
            plan, graph = batches.review_graph(builder, options)
            asked = ",".join(carry.engine.members) if carry.engine is not None else "auto"
            name = review_name(options, asked)
            run = self._latest(name, "review") if carry.is_resume and not carry.is_new else None
            if run is not None:
                self.project.refuse_foreign_state()
            return await self._run(builder, "review", name, plan, graph, run, options)

    async def preview_review(
        self, options: ReviewOptions, carry: CarryOut
    ) -> tuple[list[str], list[str], str]:
        """Say what a review would do (`--dry-run`): its files, the engines, and why they would be taken."""
        tree = chosen_files(self.project, options)
        if not tree.paths:
            return [], [], "nothing"
        async with self._builder(carry, {}, tree=tree) as builder:
            plan, graph = batches.review_graph(builder, options)
            who = builder.job("preview", "review", None, plan, graph).assignment(graph.instances[0])
            return list(tree.paths), list(who.choice.members) if not who.error else [], who.why

    async def review_offer(self, options: ReviewOptions, carry: CarryOut) -> Offer | None:
        """Say which engine the user should be asked about before a review; None where there is none."""
        if carry.engine is not None or self.project.settings.defaults.engine is not None:
            return None
        tree = chosen_files(self.project, options)
        template = self.project.templates.get(options.template)
        if not tree.paths or template is None:  # a name of none is refused later
            return None
        checklist = template.checklist
        told = [template.prompt, *(checklist.get(name, "") for name in options.checklist or checklist)]
        return await offer(self.project, tree.paths, prompt="\n".join(told))

    async def carry_out_plan(self, plan: Plan, name: str | None, carry: CarryOut) -> RunDocument:
        """Carry a plan out; see `execute`."""
        if positions(plan).finished:
            return nothing_to_do(name)
        run = self._latest(name, "execute") if name and carry.is_resume and not carry.is_new else None
        named = carry.only
        if run is not None:
            self.project.refuse_foreign_state()
            carry = recorded.options(*recorded.beginning(self.project.store.journal, run), carry)
        async with self._builder(carry, plan.engines, run) as builder:
            builder.checked(plan)
            return await self._run(builder, "execute", name, plan, builder.graph(plan), run, named=named)

    async def _start(self, plan: Plan, name: str, names: Sequence[str]) -> list[Started]:
        """Make the worktrees of a plan's workstreams; see `Work.start`."""
        if positions(plan).finished:
            return []
        run = self._latest(name, "execute")
        if run is not None and self.project.store.journal.is_owned(run):
            raise BusyError(
                f"run `{run}` is carried out, and starts them itself", next="`parallelai work status`"
            )
        carry = CarryOut()
        async with self._builder(carry, plan.engines, run) as builder, contextlib.AsyncExitStack() as stack:
            builder.checked(plan)
            job = builder.job(run or new_run_id(), "execute", name, plan, builder.graph(plan))
            writer = await stack.enter_async_context(self.project.store.journal.writer(job.run))
            if run is None:
                writer.append(
                    recorded.creation(
                        job, plan, carry, None, notes_of(self.project, job), parallelai.__version__
                    )
                )
            masker = masker_of(job)
            room = await stack.enter_async_context(
                room_for(self.project, job, writer, masker, Ports(), lambda note: None)
            )
            if room is None:
                raise UsageError(f"`{name}` has no workstreams")
            return [await room.site.prepare(each) for each in names]

    async def _resume(self, run: str, carry: CarryOut) -> RunDocument:
        """Go on with a run of any kind, from what it recorded (`runs resume`)."""
        self.project.refuse_foreign_state()
        created, changed = recorded.beginning(self.project.store.journal, run)
        carry = recorded.options(created, changed, carry)
        if created.kind == "review":
            options = recorded.review_options(created)
            plan = recorded.plan_of(created)
            tree = chosen_files(self.project, options)
            async with self._builder(carry, {}, run, tree=tree) as builder:
                graph = builder.graph(plan)
                if plan.tasks[0].each is None:
                    graph = batches.batched(builder, plan, graph)
                return await self._run(builder, "review", created.plan, plan, graph, run, options)
        plan = self._recorded_plan(created, carry.variables)
        if positions(plan).finished:
            return nothing_to_do(created.plan)
        async with self._builder(carry, plan.engines, run) as builder:
            builder.checked(plan)
            return await self._run(builder, "execute", created.plan, plan, builder.graph(plan), run)

    def _recorded_plan(self, created: RunCreated, variables: Iterable[str]) -> Plan:
        """The plan file as it is now; what was given as an object, as it was recorded."""
        path = self.project.root / created.plan if created.plan is not None else None
        if path is not None and path.is_file():
            return self._load(path, None, variables)[0]
        return recorded.plan_of(created)

    async def _run(
        self,
        builder: Builder,
        kind: str,
        name: str | None,
        plan: Plan,
        graph: TaskGraph,
        run: str | None,
        review: ReviewOptions | None = None,
        *,
        named: Sequence[str] = (),
    ) -> RunDocument:
        """Carry a job out; `named` is what this call asked for by `only`, whatever the run was asked for before."""
        store = self.project.store
        prior, report = resume.Prior(), Report()
        created = None
        async with contextlib.AsyncExitStack() as stack:
            if run is not None:  # its journal is read by its owner only: another would read too early
                writer = await stack.enter_async_context(store.journal.writer(run))
                prior = resume.read(_reported(store.journal.events(run), report))
                plan, graph = _with_added(builder, plan, graph, prior)
            job = builder.job(run or new_run_id(), kind, name, plan, graph)
            is_afresh = run is None and (builder.options.is_new or not builder.options.is_resume)
            job, news = await taken_up(self.project, job, prior, is_afresh=is_afresh, only=named)
            if review is not None and review.baseline is not None:
                job = dataclasses.replace(job, baseline=baseline.load(review.baseline))
            if run is None:
                created = recorded.creation(
                    job, plan, builder.options, review, notes_of(self.project, job), parallelai.__version__
                )
                prior.spare = self._spare(job)
                writer = await stack.enter_async_context(store.journal.writer(job.run))
            masker = masker_of(job)
            workspaces = await workspaces_for(self.project, job, masker, prior)
            if workspaces is not None:
                stack.push_async_callback(workspaces.aclose)
            notes: list[str] = []
            questions = Questions(writer.append, is_attended=job.is_attended, is_confined=is_confined)
            ports = dataclasses.replace(ports_for(self.project, job.plan, job.logs), choose=questions.choose)
            room = await stack.enter_async_context(
                room_for(self.project, job, writer, masker, ports, notes.append)
            )
            if created is not None and notes:
                created = dataclasses.replace(created, notes=(*created.notes, *notes))
            runner = Runner(
                job,
                store,
                writer,
                prior=prior,
                report=report,
                created=created,
                grow=builder.grow,
                news=(*recorded.changes(builder.options, prior), *news),
                watch=builder.options.on_events,
                masker=masker,
                workspaces=places_of(room, workspaces),
                steps=steps_of(room, job),
                steer=room.steer if room is not None else None,
                questions=questions,
            )
            with self._running(runner):
                return await runner.carry_out()

    # -- small things

    @contextlib.contextmanager
    def _running(self, runner: Runner) -> Iterator[None]:
        self._runners.add(runner)
        try:
            yield
        finally:
            self._runners.discard(runner)

    @contextlib.asynccontextmanager
    async def _builder(
        self,
        carry: CarryOut,
        entries: Mapping[str, Any],
        run: str | None = None,
        *,
        tree: Tree | None = None,
    ) -> AsyncIterator[Builder]:
        registry = self.project.registry(entries)
        require(registry, carry.engine)
        kept = recorded.chosen(self.project.store.journal, run) if run is not None else {}
        try:
            with collecting_seldom():
                yield Builder(self.project, registry, carry, tree or self.project.tree, kept)
        finally:
            await registry.aclose()

    def _carry(self, **asked: Any) -> CarryOut:
        choice, engines = choice_of(asked.pop("engine"))
        self.project.given.update({engine.name: engine for engine in engines})
        timeout = asked.pop("timeout")
        count_of(asked["parallel"])
        return CarryOut(
            engine=choice,
            budget=budget_of(asked.pop("budget")),
            timeout_seconds=seconds_of(timeout),
            fail_on=severity_of(asked.pop("fail_on")),
            **asked,
        )

    def _load(
        self,
        plan: str | Path | Plan | Mapping[str, Any] | None,
        tasks: Iterable[Task | Mapping[str, Any]] | None,
        variables: Iterable[str] = (),
    ) -> tuple[Plan, str | None]:
        """Load a plan, and say what it is known by; None for one that is not a file."""
        if (plan is None) == (tasks is None):
            raise UsageError("give a plan or tasks", next='`execute("tasks.yaml")`, or `execute(tasks=[…])`')
        if isinstance(plan, Plan):
            return plan, None
        names = self.project.names(variables)
        if isinstance(plan, Mapping):
            return load.from_mapping(plan, names=names, tree=self.project.tree), None
        if plan is None:
            given = {"tasks": list(tasks or ())}
            return load.from_mapping(given, names=names, tree=self.project.tree), None
        path = Path(plan)
        loaded = load.load(path, root=self.project.root, names=names, tree=self.project.tree)
        return loaded, plan_name(path, self.project.root)

    def _latest(self, name: str, kind: str) -> str | None:
        if not self.project.has_store:
            return None
        row = self.project.store.journal.latest(plan=name, kind=kind)
        return row.id if row is not None else None

    def _spare(self, job: Job) -> dict[str, dict[int, resume.Answered]]:
        """What a killed run of the same was answered, where stored replies may be used."""
        if not job.is_cacheable or not self.project.is_own_state:
            return {}
        return recorded.spare(self.project.store.journal, job.name, job.kind)


def _reported(events: Iterable[Event], report: Report) -> Iterator[Event]:
    """Pass events on, and let a report take them."""
    for event in events:
        report.take(event)
        yield event


def _with_added(
    builder: Builder, plan: Plan, graph: TaskGraph, prior: resume.Prior
) -> tuple[Plan, TaskGraph]:
    """Take in again what `runs add` brought to the run."""
    known = {task.id for task in plan.tasks}  # somebody may have written it into the plan since
    for task in prior.added:
        if task.get("id") not in known:
            plan, graph = builder.with_task(plan, graph, task)
    return plan, graph
